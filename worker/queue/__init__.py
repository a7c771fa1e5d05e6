"""All that knows Celery and kombu: intake, tasks, events."""
