"""Searching files: the inputs, the baseline of known secrets, and the report for other tools."""
