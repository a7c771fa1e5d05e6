"""Observability of the worker: logs, metrics, the health file."""
