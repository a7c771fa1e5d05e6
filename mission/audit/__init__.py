"""The audit: a chain of entries in Redis that says who did what, when and why. Each is written before the action."""
