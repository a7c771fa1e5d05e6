"""The recipients of results, and the audit record of the keys in use."""
