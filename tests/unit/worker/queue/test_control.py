"""The remote control sends nothing, and answers Flower's requests from heartbeats."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from mission.store.names import REMOTE_CONTROL
from tests.conftest import wait_for
from worker.app import make_app
from worker.queue.control import HeartbeatControl
from worker.settings import WorkerSettings

pytestmark = pytest.mark.server("kombu's own connections")


@pytest.fixture
def app(settings: WorkerSettings) -> Celery:
    return Celery("test", broker=settings.redis_url.get_secret_value(), control=HeartbeatControl, set_as_current=False)


@pytest.fixture
def beating(app: Celery) -> Iterator[None]:
    """Two workers that send heartbeats at intervals."""
    over = threading.Event()

    def beat() -> None:
        with app.connection() as connection:
            ones = [app.events.Dispatcher(connection, hostname=name) for name in ("one", "other")]
            while not over.wait(0.05):
                for one in ones:
                    one.send("worker-heartbeat", active=3, processed=12, loadavg=[0.5, 0.25, 0.1])
                    one.send("task-received", uuid="x")
                    one.flush()

    thread = threading.Thread(target=beat)
    thread.start()
    yield
    over.set()
    thread.join()


def test_nothing_is_sent_to_workers(app: Celery, client: redis.Redis) -> None:
    with client.pubsub() as heard:  # type: ignore[no-untyped-call]  # redis has few types
        heard.psubscribe("*")
        wait_for(client.pubsub_numpat, what="the subscription")
        app.control.enable_events()
        app.control.shutdown()
        app.control.revoke("0f8fad5b-d9cb-469f-a165-70867728950e", terminate=True)
        assert app.control.ping() == [{}]
        assert app.control.inspect(timeout=0.1).active() == {}
        client.publish("the", "end")
        said = [message for _ in range(9) if (message := heard.get_message(timeout=0.5))]
    assert [message["channel"] for message in said if message["type"] == "pmessage"] == [b"the"]
    assert REMOTE_CONTROL.encode() not in client.pubsub_channels()


@pytest.mark.usefixtures("beating")
def test_a_workers_facts_are_those_of_its_heartbeat(app: Celery) -> None:
    found = app.control.inspect(["one"], timeout=30).stats()
    assert found.keys() == {"one"}
    assert found["one"]["pool"].items() >= {"messages in flight": 3, "messages done": 12}.items()
    assert found["one"]["pid"] > 0


@pytest.mark.usefixtures("beating")
def test_of_a_worker_that_does_not_beat_nothing_is_said_and_not_for_long(app: Celery) -> None:
    assert app.control.inspect(["third"], timeout=0.3).stats() == {}


def test_nobody_is_asked_where_no_worker_is_named(app: Celery) -> None:
    assert app.control.inspect(timeout=30).stats() == {}


def test_the_queues_are_those_that_workers_take_from(settings: WorkerSettings) -> None:
    queues = make_app(settings).control.inspect(["one"]).active_queues()["one"]
    assert [queue["name"] for queue in queues] == ["missions-high", "missions", "missions-low"]
