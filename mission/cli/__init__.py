"""Code that both commands share, and the commands that need no worker."""
