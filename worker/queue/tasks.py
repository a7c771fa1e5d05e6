"""The Celery tasks: `decoder.decode` for workers, `decoder.submit` and `decoder.status` for clients that only speak Celery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery, Task
from celery.worker.request import Request

from mission.admission import DEFAULT_SUBMITTER, newly_queued
from mission.errors import DecoderError, InvalidMission, LedgerUnavailable
from mission.ids import check_mission_id
from mission.model import Reason
from mission.store.messages import DECODE, STATUS, SUBMIT
from worker.queue.intake import MAX_IDS_PER_MESSAGE
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
    """A request whose mission ids show, so that a mission can be looked for in Flower. What is no id does not."""

    @property
    def argsrepr(self) -> str:
        """The ids, where the arguments are such and nothing else."""
        try:
            (ids,) = self.args
            return f"({', '.join(check_mission_id(item) for item in _few(ids))})"
        except (InvalidMission, TypeError, ValueError):
            return str(super().argsrepr)


def register(app: Celery, runtime: Callable[[], Runtime]) -> None:
    """Define the three tasks on an app; `runtime` gives the parts once the worker has started."""
    options: dict[str, Any] = {
        "acks_late": True,
        "throws": (DecoderError,),
        "shared": False,  # no other app of this process, like a publisher's, is to have them
    }

    @app.task(name=DECODE, Request=MissionsRequest, ignore_result=True, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def decode(ids: list[str]) -> None:
        runtime().batch.work([check_mission_id(item) for item in _few(ids)])

    @app.task(name=SUBMIT, bind=True, Request=PrivateRequest, ignore_result=False, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def submit(
        self: Task, url: str, *, submitter: str = DEFAULT_SUBMITTER, expires: float | None = None
    ) -> dict[str, Any]:
        parts = runtime()
        if not parts.settings.accept_submit:
            raise DecoderError("decoder.submit is switched off here (DECODER_ACCEPT_SUBMIT=false)")
        with _plain_refusals():
            verdict = parts.admitter.admit(
                [url], submitter=submitter, expires_seconds=expires, mission_id=check_mission_id(self.request.id)
            )[0]
            if isinstance(verdict, DecoderError):
                raise verdict
        # Where this fails the ledger has it all the same, and the reaper publishes it.
        with suppress(LedgerUnavailable):
            parts.publisher.publish(newly_queued([verdict]))
        return verdict.as_dict()

    @app.task(name=STATUS, Request=PrivateRequest, ignore_result=False, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def status(mission_id: str) -> dict[str, Any]:
        with _plain_refusals():
            return runtime().ledger.status(mission_id).as_dict()


def _few(ids: object) -> list[object]:
    if not isinstance(ids, list) or len(ids) > MAX_IDS_PER_MESSAGE:
        raise InvalidMission(Reason.MALFORMED_MESSAGE, "decoder.decode takes a short list of mission ids")
    return ids


@contextmanager
def _plain_refusals() -> Iterator[None]:
    """Refuse with one plain exception whose text starts with the reason: a client that only speaks Celery can rebuild it."""
    try:
        yield
    except DecoderError as error:
        raise DecoderError(str(error)) from None
