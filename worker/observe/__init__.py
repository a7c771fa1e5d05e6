"""What tells how the worker is doing: logs, metrics, the health file."""
