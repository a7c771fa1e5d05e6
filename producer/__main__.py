"""`python -m producer` is the `mission` command."""

from producer.cli import main

main(prog_name="mission")
