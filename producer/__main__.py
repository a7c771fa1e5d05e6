"""The `mission` command, also as `python -m producer`. It handles URLs, an identity and unencrypted secrets."""

from mission.hardening import keep_memory_private
from producer.cli import main as command


def main() -> None:
    """Run the command."""
    keep_memory_private()
    command(prog_name="mission")


if __name__ == "__main__":
    main()
