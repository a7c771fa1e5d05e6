"""Everything that talks to Redis: connection, ledger, messages, logins."""
