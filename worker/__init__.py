"""The code that runs in the pod: Celery app, pipeline, metrics, and the `decoder` command."""
