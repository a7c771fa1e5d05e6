"""Enqueue a mission and follow it to its end with nothing but Celery: no key, and no code of the decoder.

It shows the two tasks for clients in any language: `decoder.submit`, whose task id is the mission's id and its idempotency
key, and `decoder.status`. The URL is in the broker in clear text until a worker admits it. If that is not acceptable, use
`producer.MissionClient`.

    export REDIS_URL=redis://celery:password@127.0.0.1:6379/0
    python examples/celery_client.py https://docs.example.com/page

Prints the ticket and the last status as JSON. Exit codes: 0 the mission succeeded, 1 it did not, 2 usage error,
130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import time
import uuid

from celery import Celery
from celery.exceptions import OperationalError
from celery.exceptions import TimeoutError as NoAnswer

QUEUE = "missions"
TERMINAL = ("succeeded", "failed", "dead")
POLL_SECONDS = 0.5


def connect(url: str) -> Celery:
    """An app that gives up within seconds if Redis is down, and verifies its certificate if it uses TLS."""
    app = Celery("example", broker=url, backend=url, set_as_current=False)
    app.conf.result_backend_transport_options = {"retry_policy": {"max_retries": 3, "interval_step": 0.2}}
    app.conf.task_publish_retry_policy = {"max_retries": 3, "interval_step": 0.2}
    if url.startswith("rediss://"):  # by default, Celery accepts any certificate
        app.conf.broker_use_ssl = app.conf.redis_backend_use_ssl = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return app


def ask(app: Celery, task: str, argument: str, *, timeout: float, task_id: str | None = None) -> dict[str, object]:
    """Send one task and wait for its result."""
    pending = app.send_task(task, args=[argument], queue=QUEUE, task_id=task_id)
    answer: dict[str, object] = pending.get(timeout=timeout)
    pending.forget()  # otherwise it stays in Redis for an hour
    return answer


def follow(app: Celery, mission_id: str, *, timeout: float) -> dict[str, object]:
    """Poll until the mission has finished or the time is up; return its last status."""
    give_up = time.monotonic() + timeout
    while True:
        left = give_up - time.monotonic()
        status = ask(app, "decoder.status", mission_id, timeout=max(1.0, left))
        if status["state"] in TERMINAL or left <= 0:
            return status
        time.sleep(POLL_SECONDS)


def main() -> int:
    """Run the example; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="URL to fetch")
    parser.add_argument("--id", type=uuid.UUID, help="mission id: repeat it to refer to the same mission")
    parser.add_argument(
        "--timeout", type=float, default=60.0, help="seconds to wait for each answer and for the end (60)"
    )
    arguments = parser.parse_args()
    redis_url = os.environ.get("REDIS_URL") or parser.error("REDIS_URL is not set: redis://user:password@host:6379/0")
    app = connect(redis_url)
    mission_id = str(arguments.id or uuid.uuid4())
    try:
        ticket = ask(app, "decoder.submit", arguments.url, timeout=arguments.timeout, task_id=mission_id)
        print(json.dumps(ticket))
        status = follow(app, mission_id, timeout=arguments.timeout)
        print(json.dumps(status))
    except KeyboardInterrupt:
        print(f"interrupted; to continue, use --id {mission_id}", file=sys.stderr)
        return 130
    except NoAnswer:
        print(f"error: no answer: is a worker running? To continue, use --id {mission_id}", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 (Celery recreates the class of a task's error, and has none for a lost backend)
        away = isinstance(error, OperationalError | RuntimeError | ConnectionError)
        print(f"error: {'Redis does not answer' if away else error}", file=sys.stderr)
        return 1
    return 0 if status["state"] == "succeeded" else 1


if __name__ == "__main__":
    sys.exit(main())
