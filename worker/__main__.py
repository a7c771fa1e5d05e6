"""The `decoder` command, also as `python -m worker`. It handles keys, URLs and secrets in plaintext."""

from mission.hardening import keep_memory_private
from worker.cli import main as command


def main() -> None:
    """Run the command."""
    keep_memory_private()
    command(prog_name="decoder")


if __name__ == "__main__":
    main()
