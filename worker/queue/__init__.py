"""The only code that depends on Celery and kombu: intake, tasks, events."""
