"""The Celery tasks: `decoder.decode` for workers, `decoder.submit` and `decoder.status` for clients that only speak Celery.

Ids and arguments have the right types here: `worker.queue.intake` passes on no others. If it refuses those of `decoder.submit` or
`decoder.status`, it passes the message on without arguments, and the task answers which ones it takes.
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
    """A request whose arguments and result appear in no event, in no log line and not in Flower."""

    @property
    def argsrepr(self) -> str:
        """A placeholder: the arguments of `decoder.submit` contain a URL."""
        return "(...)"

    @property
    def kwargsrepr(self) -> str:
        """A placeholder."""
        return "{...}"

    def send_event(self, type: str, **fields: Any) -> None:  # noqa: A002 (Celery's name for it)
        """Send the event without the result; the answer is only for the caller."""
        super().send_event(type, **fields | ({"result": "(...)"} if "result" in fields else {}))


class MissionsRequest(PrivateRequest):
    """A request that shows its mission ids, so that people can find a mission in Flower: `intake` lets nothing else through.

    It also shows its result: how many missions it woke the worker for, and how they ended.
    """

    @property
    def argsrepr(self) -> str:
        """The ids."""
        (ids,) = self.args
        return f"({', '.join(ids)})"

    send_event = Request.send_event  # with the result


def register(app: Celery, runtime: Callable[[], Runtime]) -> None:
    """Define the three tasks on an app; `runtime` returns the parts once the worker has started."""
    options: dict[str, Any] = {
        "acks_late": True,
        "throws": (DecoderError,),
        "shared": False,  # no other app in this process, like a publisher's, gets them
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
    """Format the number of missions by outcome: `14 succeeded, 2 failed`."""
    return ", ".join(f"{went[how]} {how}" for how in _WENT if went[how])


@contextmanager
def _plain_refusals() -> Iterator[None]:
    """Raise refusals as one plain exception whose text starts with the reason: a client that only speaks Celery can rebuild it."""
    try:
        yield
    except DecoderError as error:
        raise DecoderError(str(error)) from None
