"""The alarm drill: each alert's cause for real, and what reaches the receiver."""
