"""The three Celery tasks, run within the test process on a real ledger."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest
import redis
from celery import Celery
from celery.worker.request import Request

from mission.admission import Admitter
from mission.errors import DecoderError
from mission.ids import new_mission_id
from mission.model import Priority, Reason, State
from mission.store.ledger import Ledger
from mission.store.messages import celery_config
from mission.store.names import QUEUE_OF, entry_key
from tests.unit.worker.parts import URL, Keys, Scripted, coordinator_of, states
from worker.queue.tasks import register
from worker.runtime import Runtime
from worker.settings import WorkerSettings
from worker.work import coordinator
from worker.work.endings import Outcome

pytestmark = pytest.mark.server("kombu's own connections")


class Tasks:
    """An app with the tasks, and the parts that they use."""

    def __init__(self, ledger: Ledger, settings: WorkerSettings) -> None:
        self.keys = Keys(ledger, settings)
        self.admitter = Admitter(ledger, self.keys.keyring, settings)
        self.coordinator = coordinator_of(ledger, settings, Scripted())
        self.settings = settings
        self.app = Celery("test", set_as_current=False, fixups=[])
        self.app.conf.update(celery_config(settings))
        register(self.app, lambda: cast("Runtime", self._parts()))

    def _parts(self) -> object:
        return SimpleNamespace(
            settings=self.settings,
            ledger=self.keys.ledger,
            admitter=self.admitter,
            coordinator=self.coordinator,
        )

    def run(self, task: str, *args: object, task_id: str | None = None, **options: object) -> Any:
        """Return the task's result, or raise its exception."""
        done = self.app.tasks[task].apply(args, options, task_id=task_id or new_mission_id(), throw=False)
        return done.get(disable_sync_subtasks=False)


@pytest.fixture
def tasks(ledger: Ledger, settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> Tasks:
    monkeypatch.setattr(coordinator, "WAITED_SECONDS", 1e6)  # missions wait for their messages
    return Tasks(ledger, settings)


def test_decode_works_the_missions_of_a_message(tasks: Tasks, ledger: Ledger) -> None:
    ids = tasks.keys.admit(URL, URL)
    assert tasks.run("decoder.decode", ids) == "2 succeeded"
    assert states(ledger, ids) == {State.SUCCEEDED}


def test_decode_says_how_each_mission_went(tasks: Tasks, ledger: Ledger) -> None:
    ends = {
        "a.example": Outcome({}, Reason.HTTP_CLIENT_ERROR),
        "b.example": Outcome({}, Reason.HTTP_SERVER_ERROR),
        "c.example": Outcome({}),
    }
    ids = tasks.keys.admit(*(f"https://{host}/" for host in ends))
    outcomes = dict(zip(ids, ends.values(), strict=True))
    tasks.coordinator = coordinator_of(ledger, tasks.settings, Scripted(lambda claim: outcomes[claim.id]))
    assert tasks.run("decoder.decode", [*ids, ids[0]]) == "1 succeeded, 1 failed, 1 released, 1 elsewhere"
    assert tasks.run("decoder.decode", ids[2:]) == "1 elsewhere"


def test_submit_admits_under_the_tasks_own_id(tasks: Tasks, ledger: Ledger, client: redis.Redis) -> None:
    own = new_mission_id()
    assert tasks.run("decoder.submit", URL, task_id=own) == {
        "id": own,
        "state": "queued",
        "duplicate": False,
        "priority": "normal",
    }
    assert ledger.status(own).state is State.QUEUED
    assert client.llen("missions") == 1


def test_submit_twice_is_one_mission_and_one_message(tasks: Tasks, client: redis.Redis) -> None:
    own = new_mission_id()
    tasks.run("decoder.submit", URL, task_id=own)
    assert tasks.run("decoder.submit", URL, task_id=own)["duplicate"] is True
    assert client.llen("missions") == 1


def test_submit_takes_a_submitter_and_a_lifetime(tasks: Tasks, client: redis.Redis) -> None:
    own = new_mission_id()
    tasks.run("decoder.submit", URL, task_id=own, submitter="team-a", expires=60)
    submitter, submitted, expires = cast(
        "list[bytes]", client.hmget(entry_key(own), "submitter", "submitted_at", "expires_at")
    )
    assert (submitter, int(expires) - int(submitted)) == (b"team-a", 60_000)


def test_submit_takes_a_priority_which_the_same_id_keeps(tasks: Tasks, ledger: Ledger, client: redis.Redis) -> None:
    own = new_mission_id()
    assert tasks.run("decoder.submit", URL, task_id=own, priority="high")["priority"] == "high"
    assert tasks.run("decoder.submit", URL, task_id=own, priority="low")["priority"] == "high"
    assert ledger.status(own).priority is Priority.HIGH
    assert [client.llen(queue) for queue in QUEUE_OF.values()] == [1, 0, 0]


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("https://user:sesame@docs.example/", {}, "credentials_in_url"),
        ("no url: sesame", {}, "invalid_url"),
        (URL, {"submitter": "no good/sesame"}, "malformed_message: a submitter is"),
        (URL, {"expires": -1}, "malformed_message: expires is"),
        (URL, {"expires": float("nan")}, "malformed_message: expires is"),
        (URL, {"priority": "sesame"}, "malformed_message: a priority is high, normal or low"),
    ],
)
def test_a_refused_submission_is_one_plain_error_that_starts_with_its_reason(
    url: str, options: dict[str, Any], said: str, tasks: Tasks
) -> None:
    with pytest.raises(DecoderError, match=f"^{said}") as refusal:
        tasks.run("decoder.submit", url, **options)
    assert type(refusal.value) is DecoderError
    assert "sesame" not in str(refusal.value)
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize("task", ["decoder.submit", "decoder.status"])
def test_without_arguments_a_task_says_what_it_takes(task: str, tasks: Tasks) -> None:
    with pytest.raises(DecoderError, match=f"^malformed_message: {task} requires a ") as refusal:
        tasks.run(task)
    assert type(refusal.value) is DecoderError


def test_submit_can_be_switched_off(tasks: Tasks, ledger: Ledger) -> None:
    tasks.settings = tasks.settings.model_copy(update={"accept_submit": False})
    with pytest.raises(DecoderError, match="DECODER_ACCEPT_SUBMIT=false"):
        tasks.run("decoder.submit", URL)
    assert ledger.stats().queued == 0


def test_status_answers_as_the_command_does(tasks: Tasks, ledger: Ledger) -> None:
    (mission_id,) = tasks.keys.admit()
    answer = tasks.run("decoder.status", mission_id)
    assert answer == ledger.status(mission_id).as_dict()
    assert json.loads(json.dumps(answer)) == answer


def test_status_answers_also_for_a_state_and_a_reason_of_a_newer_release(tasks: Tasks, client: redis.Redis) -> None:
    (mission_id,) = tasks.keys.admit()
    client.hset(entry_key(mission_id), mapping={"state": "cancelled", "reason": "asked_to"})
    answer = json.loads(json.dumps(tasks.run("decoder.status", mission_id)))
    assert (answer["state"], answer["reason"]) == ("cancelled", "asked_to")


def test_status_of_a_mission_that_is_none_is_refused(tasks: Tasks) -> None:
    with pytest.raises(DecoderError, match=r"no mission .* in the ledger"):
        tasks.run("decoder.status", "0f8fad5b-d9cb-469f-a165-70867728950e")


def request_of(tasks: Tasks, name: str, *args: object) -> Any:
    task = tasks.app.tasks[f"decoder.{name}"]
    headers = {"id": new_mission_id(), "task": task.name, "argsrepr": "sesame", "kwargsrepr": "sesame"}
    message = SimpleNamespace(delivery_info={}, properties={}, headers=headers, payload=None)
    return task.Request(message, app=tasks.app, task=task, body=(args, {}, {}), headers=headers, decoded=True)


@pytest.mark.parametrize("name", ["submit", "status"])
def test_a_requests_arguments_never_show(name: str, tasks: Tasks) -> None:
    request = request_of(tasks, name, new_mission_id())
    assert isinstance(request, Request)
    assert (request.argsrepr, request.kwargsrepr) == ("(...)", "{...}")


def test_the_missions_of_a_message_show_by_their_ids(tasks: Tasks) -> None:
    ids = [new_mission_id(), new_mission_id()]
    request = request_of(tasks, "decode", ids)
    assert (request.argsrepr, request.kwargsrepr) == (f"({ids[0]}, {ids[1]})", "{...}")


def test_the_answer_of_decode_alone_shows(tasks: Tasks) -> None:
    shown = {}
    for name, args in {"decode": [new_mission_id()], "submit": URL, "status": new_mission_id()}.items():
        sent: list[dict[str, object]] = []
        request = request_of(tasks, name, args)
        request._eventer = SimpleNamespace(enabled=True, send=lambda _, sent=sent, **fields: sent.append(fields))
        tasks.app.tasks[f"decoder.{name}"].send_events = True
        request.send_event("task-succeeded", result="the answer", runtime=1.0)
        (event,) = sent
        shown[name] = event["result"]
    assert shown == {"decode": "the answer", "submit": "(...)", "status": "(...)"}
