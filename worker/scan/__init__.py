"""Searching files: which ones, what was known of them before, and the report that other tools read."""
