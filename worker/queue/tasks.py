"""The Celery tasks: `decoder.decode` for workers, `decoder.submit` and `decoder.status` for clients that only speak Celery.

Ids and arguments have the right types here: `worker.queue.intake` lets through no message where they have not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task
from celery.worker.request import Request

from mission.admission import DEFAULT_SUBMITTER
from mission.errors import DecoderError
from mission.store.messages import DECODE, STATUS, SUBMIT
from worker.runtime import Runtime


class PrivateRequest(Request):  # type: ignore[misc]  # celery has no types
    """A request whose arguments never show: not in an event, not in Flower, not in a log line."""

    @property
    def argsrepr(self) -> str:
        """Nothing: `decoder.submit` has a URL there."""
        return "(...)"

    @property
    def kwargsrepr(self) -> str:
        """Nothing."""
        return "{...}"


class MissionsRequest(PrivateRequest):
    """A request whose mission ids show, so that a mission can be looked for in Flower: `intake` lets nothing else through."""

    @property
    def argsrepr(self) -> str:
        """The ids."""
        (ids,) = self.args
        return f"({', '.join(ids)})"


def register(app: Celery, runtime: Callable[[], Runtime]) -> None:
    """Define the three tasks on an app; `runtime` gives the parts once the worker has started."""
    options: dict[str, Any] = {
        "acks_late": True,
        "throws": (DecoderError,),
        "shared": False,  # no other app of this process, like a publisher's, is to have them
    }

    @app.task(name=DECODE, Request=MissionsRequest, ignore_result=True, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def decode(ids: list[str]) -> None:
        runtime().coordinator.work(ids)

    @app.task(name=SUBMIT, bind=True, Request=PrivateRequest, ignore_result=False, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def submit(
        self: Task, url: str, *, submitter: str = DEFAULT_SUBMITTER, expires: float | None = None
    ) -> dict[str, Any]:
        parts = runtime()
        if not parts.settings.accept_submit:
            raise DecoderError("decoder.submit is switched off here (DECODER_ACCEPT_SUBMIT=false)")
        with _plain_refusals():
            (verdict,) = parts.admitter.admit(
                [url], submitter=submitter, expires_seconds=expires, mission_id=self.request.id
            )
            if isinstance(verdict, DecoderError):
                raise verdict
            return verdict.as_dict()

    @app.task(name=STATUS, Request=PrivateRequest, ignore_result=False, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def status(mission_id: str) -> dict[str, Any]:
        with _plain_refusals():
            return runtime().ledger.status(mission_id).as_dict()


@contextmanager
def _plain_refusals() -> Iterator[None]:
    """Refuse with one plain exception whose text starts with the reason: a client that only speaks Celery can rebuild it."""
    try:
        yield
    except DecoderError as error:
        raise DecoderError(str(error)) from None
