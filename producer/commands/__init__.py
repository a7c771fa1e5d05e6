"""The subcommands of `mission` that have a module of their own."""
