"""The Celery tasks: `decoder.decode` for workers, `decoder.submit` and `decoder.status` for clients that only speak Celery.

Ids and arguments have the right types here: `worker.queue.intake` hands on no others. Where those of `decoder.submit` and
`decoder.status` are refused it hands the message on without any, and the task answers with what it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import Celery, Task
from celery.worker.request import Request

from mission.admission import DEFAULT_SUBMITTER
from mission.errors import DecoderError, InvalidMission
from mission.model import Priority, Reason, State
from mission.store.messages import DECODE, STATUS, SUBMIT
from worker.runtime import Runtime
from worker.work.coordinator import ELSEWHERE, RELEASED

_WENT = (State.SUCCEEDED, State.FAILED, State.DEAD, RELEASED, ELSEWHERE)

_SUBMIT_TAKES = "decoder.submit requires a URL; its options are submitter (text), expires (seconds) and priority (high, normal or low), all as JSON"
_STATUS_TAKES = "decoder.status requires a mission id as JSON, a UUID like 0f8fad5b-d9cb-469f-a165-70867728950e"


class PrivateRequest(Request):  # type: ignore[misc]  # celery has no types
    """A request whose arguments and answer never show: not in an event, not in Flower, not in a log line."""

    @property
    def argsrepr(self) -> str:
        """Nothing: `decoder.submit` has a URL there."""
        return "(...)"

    @property
    def kwargsrepr(self) -> str:
        """Nothing."""
        return "{...}"

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 (Celery's name for it)
        """Send the event without the result; the answer is only for the caller."""
        super().send_event(type, **fields | ({"result": "(...)"} if "result" in fields else {}))


class MissionsRequest(PrivateRequest):
    """A request whose mission ids show, so that a mission can be looked for in Flower: `intake` lets nothing else through.

    So does its answer: how many missions it woke the worker for, and how they went.
    """

    @property
    def argsrepr(self) -> str:
        """The ids."""
        (ids,) = self.args
        return f"({', '.join(ids)})"

    send_event = Request.send_event  # with its answer


def register(app: Celery, runtime: Callable[[], Runtime]) -> None:
    """Define the three tasks on an app; `runtime` gives the parts once the worker has started."""
    options: dict[str, Any] = {
        "acks_late": True,
        "throws": (DecoderError,),
        "shared": False,  # no other app of this process, like a publisher's, is to have them
    }

    @app.task(name=DECODE, Request=MissionsRequest, ignore_result=True, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def decode(ids: list[str]) -> str:
        return as_text(runtime().coordinator.work(len(ids)))  # only for the event: Flower shows it

    @app.task(name=SUBMIT, bind=True, Request=PrivateRequest, ignore_result=False, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def submit(
        self: Task,
        url: str | None = None,
        *,
        submitter: str = DEFAULT_SUBMITTER,
        expires: float | None = None,
        priority: str = Priority.NORMAL,
    ) -> dict[str, Any]:
        parts = runtime()
        if not parts.settings.accept_submit:
            raise DecoderError("decoder.submit is switched off here (DECODER_ACCEPT_SUBMIT=false)")
        with _plain_refusals():
            if url is None:
                raise InvalidMission(Reason.MALFORMED_MESSAGE, _SUBMIT_TAKES)
            (verdict,) = parts.admitter.admit(
                [url],
                submitter=submitter,
                expires_seconds=expires,
                mission_id=self.request.id,
                priority=priority,
            )
            if isinstance(verdict, DecoderError):
                raise verdict
            return verdict.as_dict()

    @app.task(name=STATUS, Request=PrivateRequest, ignore_result=False, **options)  # type: ignore[untyped-decorator]  # celery has no types
    def status(mission_id: str | None = None) -> dict[str, Any]:
        with _plain_refusals():
            if mission_id is None:
                raise InvalidMission(Reason.MALFORMED_MESSAGE, _STATUS_TAKES)
            return runtime().ledger.status(mission_id).as_dict()


def as_text(went: Mapping[str, int]) -> str:
    """How many missions went how: `14 succeeded, 2 failed`."""
    return ", ".join(f"{went[how]} {how}" for how in _WENT if went[how])


@contextmanager
def _plain_refusals() -> Iterator[None]:
    """Refuse with one plain exception whose text starts with the reason: a client that only speaks Celery can rebuild it."""
    try:
        yield
    except DecoderError as error:
        raise DecoderError(str(error)) from None
