"""The subcommands of `decoder`."""
