"""The subcommands of `mission`."""
