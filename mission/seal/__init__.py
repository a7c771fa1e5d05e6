"""Keys, and what is encrypted with them: sealed results and URLs."""
