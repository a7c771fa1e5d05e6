"""Check, at each connection and before consuming, that the server has the functions that this release calls."""

from __future__ import annotations

import logging
import sys
from typing import Any

from celery.bootsteps import StartStopStep
from redis.exceptions import NoPermissionError

from mission.errors import DecoderError
from mission.store import library

log = logging.getLogger("decoder.worker")


class FunctionCheck(StartStopStep):  # type: ignore[misc]  # celery has no types
    """A step of Celery's consumer: loads missing or older functions if the login may, else logs a warning."""

    requires = ("celery.worker.consumer:Connection",)

    def start(self, consumer: Any) -> None:
        """Check. If the broker does not answer, Celery takes the error for a lost connection and retries."""
        with consumer.connection.default_channel.conn_or_acquire() as client:
            found = library.number(client)
            if found is not None and found >= library.LIBRARY:
                return
            try:
                library.load(client)
            except NoPermissionError:
                what = "lacks the functions" if found is None else "has older functions"
                log.warning("Redis %s: %s", what, library.REMEDY)
            except DecoderError as error:
                sys.stderr.write(f"error: {error}\n")
                raise SystemExit(2) from None
