"""The logins of `mission.store.acl` on real servers: each can do its work, and every cell of the table is tried."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from pydantic import SecretStr

import mission.client
import worker.local.embedded
from mission.audit.log import AuditLog
from mission.errors import AuditError, DecoderError, LedgerUnavailable, SettingsError
from mission.ids import new_mission_id
from mission.model import Reason, State, Ticket
from mission.operate.cancellation import cancel
from mission.operate.dead_letters import DeadLetters
from mission.operate.erasure import forget
from mission.operate.listing import Selection, find_missions
from mission.operate.repair import repair
from mission.operate.results import ResultReader
from mission.seal.sealing import Identity
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store import library, names
from mission.store.acl import FUNCTIONS, LOGINS, acl_lines
from mission.store.changes import Admission, Commit, Release
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.messages import STATUS, compose
from mission.store.names import INDEXES, PREFIX, TYPES, UNACKED, UNACKED_INDEX, Key, batch_key, entry_key, result_key
from mission.store.scripts import Scripts
from producer import MissionClient
from tests.claims import claim_these
from tests.conftest import wait_for
from worker.doctor import Level, examine
from worker.local.embedded import EmbeddedRedis, server_program
from worker.local.sample_site import SampleSite
from worker.local.stack import running_flower, running_worker
from worker.settings import WorkerSettings

pytestmark = pytest.mark.full

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
RESULT = result_key(MISSION, 1)
ENTRY = entry_key(MISSION)
CANARY = "DCDR-canary"
LOADED = hashlib.sha1(b"return 1").hexdigest()  # how Redis names a script
OWN_LIBRARY = "#!lua name=own\nredis.register_function('own', function() return 1 end)"
DENIED = "(?i)permission|can't (run|access)|ACL failure"
# redis-py sends this to every server, and ignores the answer.
HARMLESS = {"client|setinfo"}


def run(client: Any, *command: Any) -> Any:
    """Send a command unchanged."""
    return client.execute_command(*command)


class Server:
    """A server that knows the logins, and an administrator."""

    def __init__(self, embedded: EmbeddedRedis) -> None:
        self.port = embedded.port
        with redis.Redis.from_url(embedded.url) as first:
            run(first, "ACL", "SETUSER", "admin", "on", ">admin-pw", "~*", "&*", "+@all")
        self.admin = redis.Redis.from_url(self.url("admin"))
        for line in acl_lines({name: f"{name}-pw" for name in LOGINS}):
            run(self.admin, "ACL", "SETUSER", *line.split()[1:])

    def url(self, name: str) -> str:
        return f"redis://{name}:{name}-pw@127.0.0.1:{self.port}/0"

    def login(self, name: str) -> redis.Redis:
        return connect(Settings.from_env(redis_url=self.url(name)))

    def refused(self) -> set[tuple[str, str]]:
        """The ACL refusals since the test began, with their logins."""
        found = {(str(item["username"]), str(item["object"])) for item in self.admin.acl_log(count=1000)}
        return {(name, what) for name, what in found if what not in HARMLESS}


@pytest.fixture(scope="module", params=["embedded", "redis-server"])
def running(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The embedded Valkey, and Redis if it is installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "redis-server":
            found = shutil.which("redis-server")
            if found is None:
                pytest.skip("no redis-server on PATH")
            patch.setattr(worker.local.embedded, "server_program", lambda: Path(found))
        with EmbeddedRedis() as embedded:
            server = Server(embedded)
            yield server
            server.admin.close()


@pytest.fixture
def server(running: Server) -> Server:
    """That server with one finished mission, a message, an audit entry and a task's result."""
    admin = running.admin
    admin.flushall()
    admin.function_flush()
    admin.function_load(library.source())
    admin.function_load(OWN_LIBRARY)
    admin.script_load("return 1")
    admin.hset(ENTRY, mapping={"state": "succeeded", "token": 1, "url": "sealed url"})
    admin.set(RESULT, CANARY, ex=1000)
    admin.lpush("missions", "message")
    admin.rpush(Key.AUDIT, "{}")
    admin.xadd(Key.QUARANTINE, {"sha256": "00"})
    admin.xadd(Key.OUTCOMES, {"id": MISSION})
    admin.set("celery-task-meta-1", "{}")
    admin.hset("unacked", "tag", "message")
    admin.zadd(PREFIX + "dead", {MISSION: 1})
    run(admin, "ACL", "LOG", "RESET")
    return running


def allowed(client: redis.Redis, *command: Any) -> bool:
    try:
        run(client, *command)
    except redis.exceptions.NoPermissionError:
        return False
    except redis.ResponseError:  # allowed, but useless by itself
        return True
    return True


# The logins of the decoder's own programs.
OURS = " ".join(name for name in LOGINS if name != "celery")
# Actions, and the logins that may do them. Every other login is refused.
TABLE: dict[str, tuple[tuple[Any, ...], str]] = {
    "write a result": (("SET", RESULT, "x", "EX", 60), "worker rewrapper"),
    "read a result": (("GET", RESULT), "reader rewrapper"),
    "delete a result": (("DEL", RESULT), "worker operator"),
    "let a result expire": (("EXPIRE", RESULT, 1), ""),
    "read an entry": (("HMGET", ENTRY, "state"), OURS),
    "read all of an entry": (("HGETALL", ENTRY), ""),
    "change an entry": (("HSET", ENTRY, "state", "dead"), "producer worker operator"),
    "delete an entry": (("DEL", ENTRY), "operator"),
    "read a batch": (("HSCAN", batch_key(MISSION), 0), OURS),
    "read a batch at once": (("HGETALL", batch_key(MISSION)), ""),
    "put a mission into a batch": (("HSET", batch_key(MISSION), MISSION, MISSION), "producer worker"),
    "delete a batch": (("DEL", batch_key(MISSION)), ""),
    "take a message": (("BRPOP", "missions", 0.01), "worker"),
    "look at messages": (("LRANGE", "missions", 0, -1), ""),
    "put a message": (("LPUSH", "missions", "x"), "producer celery worker"),
    "put an urgent message": (("LPUSH", "missions-high", "x"), "producer celery worker"),
    "put a message where nobody looks": (("LPUSH", "missions-x", "x"), "producer worker"),
    "delete the queue": (("DEL", "missions"), ""),
    "count the messages": (("LLEN", "missions"), "producer celery worker operator flower metrics"),
    "count the dead": (("ZCARD", PREFIX + "dead"), OURS),
    "list the missions": (("ZRANGE", Key.OPEN, 0, -1), ""),
    "list the missions by time": (("ZRANGEBYSCORE", Key.OPEN, "-inf", "+inf"), ""),
    "list the missions, the newest first": (("ZREVRANGEBYSCORE", Key.OPEN, "+inf", "-inf"), "reader operator"),
    "list the queue": (("ZRANGE", Key.QUEUED, 0, -1), "worker"),
    "list whose turn it is": (("ZRANGE", Key.RING + "normal", 0, -1), "worker"),
    "put a mission into a line": (("RPUSH", Key.LINE + "normal:app", "x"), "producer worker operator"),
    "take a mission from a line": (("LPOP", Key.LINE + "normal:app"), "worker"),
    "list a line": (("LRANGE", Key.LINE + "normal:app", 0, -1), ""),
    "change a turn": (("ZADD", Key.RING + "normal", "GT", 1, "app"), "producer worker operator"),
    "list the dead": (("ZRANGEBYSCORE", PREFIX + "dead", "-inf", "+inf"), "operator"),
    "count what finished": (("HMGET", PREFIX + "finished", "failed"), OURS),
    "read messages in hand": (("HGET", "unacked", "tag"), "worker"),
    "append to the audit": (("RPUSH", Key.AUDIT, "x"), "reader operator rewrapper auditor"),
    "read the audit": (("LRANGE", Key.AUDIT, 0, -1), "reader operator rewrapper auditor"),
    "cut the audit": (("LTRIM", Key.AUDIT, 0, -1), "auditor"),
    "put before the audit": (("LPUSH", Key.AUDIT, "x"), ""),
    "put into the audit": (("LINSERT", Key.AUDIT, "BEFORE", "{}", "x"), ""),
    "take from the audit": (("RPOP", Key.AUDIT), ""),
    "take from the old end of the audit": (("LPOP", Key.AUDIT), ""),
    "delete from the audit": (("LREM", Key.AUDIT, 0, "{}"), ""),
    "change an entry of the audit": (("LSET", Key.AUDIT, 0, "x"), ""),
    "delete the audit": (("DEL", Key.AUDIT), ""),
    "overwrite the audit": (("SET", Key.AUDIT, "x"), ""),
    "let the audit expire": (("EXPIRE", Key.AUDIT, 1), ""),
    "rename the audit": (("RENAME", Key.AUDIT, "x"), ""),
    "append to the chain of keys": (("RPUSH", Key.AUDIT_KEYS, "x"), "worker auditor"),
    "read the chain of keys": (("LRANGE", Key.AUDIT_KEYS, 0, -1), "worker reader operator rewrapper auditor"),
    "cut the chain of keys": (("LTRIM", Key.AUDIT_KEYS, 0, -1), "auditor"),
    "take from the chain of keys": (("RPOP", Key.AUDIT_KEYS), ""),
    "delete the chain of keys": (("DEL", Key.AUDIT_KEYS), ""),
    "the size of the audit": (("MEMORY", "USAGE", Key.AUDIT), "worker"),
    "the size of the chain of keys": (("MEMORY", "USAGE", Key.AUDIT_KEYS), "worker"),
    "the size of a result": (("MEMORY", "USAGE", RESULT), ""),
    "write to the quarantine": (("XADD", Key.QUARANTINE, "*", "sha256", "x"), "worker"),
    "read the quarantine": (("XRANGE", Key.QUARANTINE, "-", "+"), "operator"),
    "write an outcome": (("XADD", Key.OUTCOMES, "*", "id", "x"), "worker operator"),
    "read the outcomes": (("XRANGE", Key.OUTCOMES, "-", "+"), "producer reader operator"),
    "wait for an outcome": (("XREAD", "COUNT", 1, "STREAMS", Key.OUTCOMES, 0), "producer reader operator"),
    "facts of the outcomes": (("XINFO", "STREAM", Key.OUTCOMES), "producer worker reader operator"),
    "the size of the outcomes": (("MEMORY", "USAGE", Key.OUTCOMES), "worker"),
    "delete an outcome": (("XDEL", Key.OUTCOMES, "1-1"), "operator"),
    "cut the outcomes": (("XTRIM", Key.OUTCOMES, "MAXLEN", 0), "worker"),
    "delete the outcomes": (("DEL", Key.OUTCOMES), ""),
    "a group of Redis' own": (("XGROUP", "CREATE", Key.OUTCOMES, "g", "$"), ""),
    "read as such a group": (("XREADGROUP", "GROUP", "g", "c", "STREAMS", Key.OUTCOMES, ">"), ""),
    "which such groups there are": (("XINFO", "GROUPS", Key.OUTCOMES), ""),
    "move a group": (("HSET", Key.GROUP + "g", "place", "1-1"), "producer reader operator"),
    "delete a group": (("DEL", Key.GROUP + "g"), "producer reader operator"),
    "let go of what a group holds": (("ZREM", Key.HELD + "g", "1-1"), "producer reader operator"),
    "list what a group holds": (("ZRANGE", Key.HELD + "g", 0, -1), ""),
    "send events": (("PUBLISH", "/0.celeryev/worker.online", "x"), "worker"),
    "use the remote control": (("PUBLISH", "/0.celery.pidbox", "x"), ""),
    "read a task's result": (("GET", "celery-task-meta-1"), "producer celery worker"),
    "write a task's result": (("SETEX", "celery-task-meta-1", 10, "x"), "worker"),
    "delete a task's result": (("DEL", "celery-task-meta-1"), "producer celery"),
    "list the keys": (("SCAN", 0), "reader operator rewrapper"),
    "list the keys at once": (("KEYS", "*"), ""),
    "a key of another's": (("SET", "somebody:else", "x"), ""),
    "read a key of another's": (("GET", "somebody:else"), ""),
    "another database": (("SELECT", 1), ""),
    "facts of the server": (("INFO",), "celery worker operator metrics"),
    "the server's clock": (("TIME",), OURS),
    "who am I": (("ACL", "WHOAMI"), OURS),
    "who else is there": (("ACL", "LIST"), ""),
    "more rights": (("ACL", "SETUSER", "me", "+@all"), ""),
    "passwords": (("CONFIG", "GET", "requirepass"), ""),
    "set-up": (("CONFIG", "SET", "appendonly", "no"), ""),
    "clients": (("CLIENT", "LIST"), ""),
    "end a client": (("CLIENT", "KILL", "TYPE", "pubsub"), ""),
    "hold all clients": (("CLIENT", "PAUSE", 1), ""),
    "what others send": (("MONITOR",), ""),
    "slow commands": (("SLOWLOG", "GET"), ""),
    "your own script": (("EVAL", "return 1", 0), ""),
    "a script that only reads": (("EVAL_RO", "return 1", 0), ""),
    "load a script": (("SCRIPT", "LOAD", "return 1"), ""),
    "a script that somebody loaded": (("EVALSHA", LOADED, 0), ""),
    "delete the scripts": (("SCRIPT", "FLUSH"), ""),
    "load functions": (("FUNCTION", "LOAD", "REPLACE", OWN_LIBRARY), "deployer"),
    "list the functions": (("FUNCTION", "LIST"), "deployer"),
    "delete the functions": (("FUNCTION", "DELETE", "decoder"), ""),
    "delete all functions": (("FUNCTION", "FLUSH"), ""),
    "put functions back": (("FUNCTION", "RESTORE", "x"), ""),
    "copy the functions": (("FUNCTION", "DUMP"), ""),
    "end a function": (("FUNCTION", "KILL"), ""),
    "your own function": (("FCALL", "own", 0), ""),
    "delete everything": (("FLUSHALL",), ""),
    "copy the data": (("SYNC",), ""),
    "follow another server": (("REPLICAOF", "NO", "ONE"), ""),
    "write a dump": (("BGSAVE",), ""),
    "stop the server": (("SHUTDOWN", "NOSAVE"), ""),
}


@pytest.mark.parametrize("name", LOGINS)
def test_each_cell_of_the_table_holds(server: Server, name: str) -> None:
    wanted = {what for what, (_, logins) in TABLE.items() if name in logins.split()}
    with server.login(name) as client:
        found = {what for what, (command, _) in TABLE.items() if allowed(client, *command)}
    assert found == wanted


ENDED_NOTICE = names.ENDED + MISSION
# The logins that may subscribe to each channel, and those that may publish.
CHANNELS: dict[tuple[str, str], str] = {
    ("SUBSCRIBE", ENDED_NOTICE): "producer",
    ("SUBSCRIBE", "celery-task-meta-1"): "producer celery",
    ("SUBSCRIBE", "/0.celeryev/worker.online"): "",
    ("SUBSCRIBE", "/0.celery.pidbox"): "",
    ("SUBSCRIBE", f"__keyspace@0__:{RESULT}"): "",
    ("PSUBSCRIBE", names.ENDED + "*"): "",  # a subscriber needs the mission's id to learn of its end
    ("PSUBSCRIBE", "*"): "",
    ("PSUBSCRIBE", names.EVENTS): "flower",
    ("SSUBSCRIBE", ENDED_NOTICE): "",
    ("PUBLISH", ENDED_NOTICE): "worker",
    ("PUBLISH", "celery-task-meta-1"): "worker",
    ("PUBLISH", "/0.celeryev/worker.online"): "worker",
    ("PUBLISH", "/0.celery.pidbox"): "",
    ("PUBLISH", "somebody-else"): "",
    ("SPUBLISH", ENDED_NOTICE): "",
}


@pytest.mark.parametrize("name", LOGINS)
def test_a_login_hears_and_speaks_on_the_channels_of_its_work_alone(server: Server, name: str) -> None:
    def may(verb: str, channel: str) -> bool:
        with server.login(name) as client, closing(client.pubsub()) as listening:
            if "PUBLISH" in verb:
                return allowed(client, verb, channel, "x")
            try:
                listening.execute_command(verb, channel)
                return listening.parse_response(block=False, timeout=10) is not None
            except redis.exceptions.NoPermissionError:
                return False

    found = {place for place in CHANNELS if may(*place)}
    assert found == {place for place, logins in CHANNELS.items() if name in logins.split()}


def test_a_producer_hears_of_an_end_at_once_and_with_the_rights_of_before_it_looks(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mission.client, "_LOOK_SECONDS", 30.0)
    settings = Settings.from_env(redis_url=server.url("producer"), url_key=generate_url_key())
    missions = MissionClient(settings)
    with server.login("worker") as client, ThreadPoolExecutor() as pool:
        ledger = Ledger(client, settings)

        def end(mission_id: str) -> None:
            (claim,) = ledger.claim(1, 60).claims
            ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0)], 60)

        heard = missions.enqueue("https://docs.example.com/a").id
        waiting = pool.submit(missions.wait, heard, 30)
        wait_for(lambda: server.admin.pubsub_numsub(names.ENDED + heard)[0][1] == 1, what="the producer to listen")
        end(heard)
        assert waiting.result(15).state is State.SUCCEEDED
        assert server.refused() == set()

        run(server.admin, "ACL", "SETUSER", "producer", "resetchannels", "&celery-task-meta-*")
        run(server.admin, "ACL", "SETUSER", "worker", "resetchannels", f"&{names.EVENTS}")
        looked = missions.enqueue("https://docs.example.com/b").id
        waiting = pool.submit(missions.wait, looked, 30)
        wait_for(lambda: ("producer", names.ENDED + looked) in server.refused(), what="the refusal")
        end(looked)
        assert waiting.result(15).state is State.SUCCEEDED
    for line in acl_lines({name: f"{name}-pw" for name in LOGINS}):
        run(server.admin, "ACL", "SETUSER", *line.split()[1:])


@pytest.mark.parametrize("name", LOGINS)
def test_more_messages_are_taken_by_workers_alone(server: Server, name: str) -> None:
    server.admin.delete("missions", "missions-other")
    server.admin.lpush("missions", "wake")
    server.admin.lpush("missions-other", "wake")
    with server.login(name) as client:
        found = allowed(client, "FCALL", library.function_name("take"), 1, Key.QUEUED, 10, "wake", 1000)
        assert found == (name == "worker")
        assert not allowed(client, "RPOP", "missions-other")
        assert not allowed(client, "LINDEX", "missions-other", 0)
    assert server.admin.llen("missions") == (0 if found else 1)


def by(*command: Any) -> Callable[[redis.Redis], object]:
    return lambda client: run(client, *command)


WAYS_TO_READ: dict[str, Callable[[redis.Redis], object]] = {
    "get": by("GET", RESULT),
    "mget": by("MGET", RESULT),
    "getex": by("GETEX", RESULT),
    "getdel": by("GETDEL", RESULT),
    "getset": by("GETSET", RESULT, "x"),
    "set get": by("SET", RESULT, "x", "GET"),
    "getrange": by("GETRANGE", RESULT, 0, -1),
    "substr": by("SUBSTR", RESULT, 0, -1),
    "strlen": by("STRLEN", RESULT),
    "append": by("APPEND", RESULT, ""),
    "setrange": by("SETRANGE", RESULT, 0, ""),
    "dump": by("DUMP", RESULT),
    "copy": by("COPY", RESULT, "missions-copy"),
    "rename": by("RENAME", RESULT, "missions-copy"),
    "renamenx": by("RENAMENX", RESULT, "missions-copy"),
    "sort by": by("SORT", "missions", "BY", PREFIX + "r:*", "GET", PREFIX + "r:*"),
    "sort store": by("SORT", "missions", "GET", PREFIX + "r:*", "STORE", "missions-copy"),
    "sort_ro": by("SORT_RO", "missions", "GET", PREFIX + "r:*"),
    "lcs": by("LCS", RESULT, "missions"),
    "getbit": by("GETBIT", RESULT, 0),
    "bitcount": by("BITCOUNT", RESULT),
    "bitpos": by("BITPOS", RESULT, 1),
    "bitfield": by("BITFIELD", RESULT, "GET", "u8", 0),
    "bitfield_ro": by("BITFIELD_RO", RESULT, "GET", "u8", 0),
    "bitop": by("BITOP", "OR", "missions-copy", RESULT),
    "pfmerge": by("PFMERGE", "missions-copy", RESULT),
    "migrate": by("MIGRATE", "127.0.0.1", 1, RESULT, 0, 10, "COPY"),
    "object": by("OBJECT", "ENCODING", RESULT),
    "memory": by("MEMORY", "USAGE", RESULT),
    "eval": by("EVAL", "return redis.call('GET', KEYS[1])", 1, RESULT),
    "eval_ro": by("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, RESULT),
    "fcall": by("FCALL", "x", 1, RESULT),
    "keyspace events": by("SUBSCRIBE", f"__keyspace@0__:{RESULT}"),
    "monitor": by(
        "MONITOR",
    ),
    "sync": by(
        "SYNC",
    ),
    "psync": by("PSYNC", "?", -1),
    "a function that reads": by("FCALL", "decoder_reseal", 1, RESULT, "x", "y"),
    "a function, its key not declared": by("FCALL", "decoder_reseal", 0, RESULT, "x", "y"),
    "a script that somebody loaded": by("EVALSHA", LOADED, 1, RESULT),
}


@pytest.mark.parametrize("name", ["worker", "producer", "celery", "operator"])
@pytest.mark.parametrize("way", WAYS_TO_READ)
def test_a_login_that_may_not_read_results_cannot(server: Server, name: str, way: str) -> None:
    with server.login(name) as client, pytest.raises(redis.ResponseError, match=DENIED):
        WAYS_TO_READ[way](client)
    assert server.admin.get(RESULT) == CANARY.encode()
    assert not server.admin.exists("missions-copy")


# The functions that each login may call; all others are refused.
CALLS = {
    **dict.fromkeys(OURS.split(), "stats"),
    "producer": "admit follow stats",
    "worker": "admit audit_append claim commit due host hosts library mend next reap release stats take",
    "reader": "audit_append follow stats",
    "operator": "audit_append cancel discard follow forget mend reindex replay stats",
    "rewrapper": "audit_append reseal stats",
    "auditor": "audit_append audit_trim stats",
}


@pytest.mark.parametrize("name", OURS.split())
def test_every_login_follows_missions_whose_ids_it_knows_without_a_url_key(server: Server, name: str) -> None:
    Ledger(server.admin, Settings.from_env()).admit([Admission(OTHER, b"u", 60)], "app", OTHER)
    client = MissionClient(Settings.from_env(redis_url=server.url(name)))
    assert client.status(OTHER).state is State.QUEUED
    assert (client.stats().queued, list(client.missions_of(OTHER))) == (1, [OTHER])
    assert server.refused() == set()


def test_a_wrong_login_is_told_in_words_also_in_the_audit(server: Server) -> None:
    settings = Settings.from_env(redis_url=server.url("reader"))
    with closing(connect(settings)) as client:
        audit = AuditLog(client, emit=lambda _: None)
        said = r"store_unavailable: this Redis user may not do that; use the login operator \(DECODER_REDIS_URL\)"
        with pytest.raises(LedgerUnavailable, match=f"^{said}$"):
            forget(client, settings, audit, MISSION, why="a test")
        assert re.fullmatch(f"failed: {said}", list(audit.entries())[-1].outcome)
        with pytest.raises(LedgerUnavailable, match="may not do that; use the login producer or worker"):
            MissionClient(settings.model_copy(update={"url_key": SecretStr(generate_url_key())})).enqueue_many(
                ["https://x.example/"]
            )


@pytest.mark.parametrize("name", OURS.split())
def test_producers_readers_and_operators_alone_are_told_how_missions_end(server: Server, name: str) -> None:
    ledger = Ledger(server.admin, Settings.from_env())
    ids = [one.id for one in ledger.admit([Admission(new_mission_id(), b"u", 60) for _ in range(2)], "app")]
    missions = MissionClient(Settings.from_env(redis_url=server.url(name)))

    def end() -> None:
        ledger.commit([Commit(one.id, one.token, State.FAILED) for one in claim_these(ledger, ids, 2, 60).claims], 60)

    if name in ("producer", "reader", "operator"):
        alone, of_a_group = missions.outcomes(), missions.outcomes("g")
        end()
        assert [[next(told).id for _ in ids] for told in (alone, of_a_group)] == [ids, ids]
        assert server.refused() == set()
    else:
        with pytest.raises(LedgerUnavailable, match="may not do that; use the login producer or reader or operator"):
            missions.outcomes()
        end()
    assert {status.id for status in missions.follow(ids, 30)} == set(ids), "who knows the ids may wait for them"


@pytest.mark.parametrize("name", OURS.split())
def test_readers_and_operators_alone_see_which_missions_there_are(server: Server, name: str) -> None:
    Ledger(server.admin, Settings.from_env()).admit([Admission(OTHER, b"u", 60)], "app", OTHER)
    settings = Settings.from_env(redis_url=server.url(name))
    with closing(connect(settings)) as client:
        assert [one.status.id for one in find_missions(client, settings, Selection(), batch_id=OTHER, limit=9)] == [
            OTHER
        ]
        if name in ("reader", "operator"):
            assert [one.status.id for one in find_missions(client, settings, Selection(), limit=9)] == [OTHER]
            every = find_missions(client, settings, Selection(list(State)), limit=9)
            assert {one.status.id for one in every} == {OTHER, MISSION}
        else:
            with pytest.raises(LedgerUnavailable, match="this Redis user may not"):
                find_missions(client, settings, Selection(), limit=9)


def test_an_operator_alone_cancels_on_record(server: Server) -> None:
    ledger = Ledger(server.admin, Settings.from_env())
    ledger.admit([Admission(OTHER, b"u", 60)], "app")
    for name in ("producer", "reader", "operator"):
        settings = Settings.from_env(redis_url=server.url(name))
        with closing(connect(settings)) as client:
            try:
                assert (
                    cancel(client, settings, AuditLog(client, emit=lambda _: None), OTHER, why="a test")
                    == State.CANCELLED
                )
            except (AuditError, LedgerUnavailable):
                assert name != "operator"
                assert ledger.status(OTHER).state is State.QUEUED
    assert ledger.status(OTHER).state is State.CANCELLED


@pytest.mark.parametrize("name", LOGINS)
def test_a_login_calls_the_functions_of_its_work_and_no_other(server: Server, name: str) -> None:
    """Rights to a single function use a syntax that Redis documents as deprecated: this fails if a server does not enforce it."""
    found = set()
    with server.login(name) as client:
        for function in FUNCTIONS:
            spellings = (library.function_name(function), library.function_name(function).upper())
            ways = [(verb, spelling, 0) for verb in ("FCALL", "FCALL_RO") for spelling in spellings]
            if any(allowed(client, *way) for way in ways):
                found.add(function)
    assert found == set(CALLS.get(name, "").split())


# An attacker's commands against a key, directly and through another key.
ATTACKS: dict[str, tuple[Any, ...]] = {
    **{
        verb: (verb,)
        for verb in ("DEL", "UNLINK", "GETDEL", "PERSIST", "SPOP", "LPOP", "ZPOPMIN", "ZPOPMAX", "INCR", "DECR")
    },
    **{verb: (verb, "x") for verb in ("SET", "SETNX", "GETSET", "APPEND", "RPUSHX", "SREM", "PFADD", "HDEL", "RPUSH")},
    **{verb: (verb, 1) for verb in ("EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT", "MOVE", "INCRBYFLOAT")},
    **{verb: (verb, 0, -1) for verb in ("LRANGE", "LTRIM", "ZREMRANGEBYRANK", "GETRANGE")},
    "SET KEEPTTL": ("SET", "x", "KEEPTTL"),
    "SET GET": ("SET", "x", "GET"),
    "SETEX": ("SETEX", 1, "x"),
    "GETEX": ("GETEX", "EX", 1),
    "SETRANGE": ("SETRANGE", 0, "x"),
    "SETBIT": ("SETBIT", 0, 1),
    "BITFIELD": ("BITFIELD", "SET", "u8", 0, 0),
    "RENAME": ("RENAME", "missions-x"),
    "RENAMENX": ("RENAMENX", "missions-x"),
    "COPY": ("COPY", "missions-x"),
    "DUMP": ("DUMP",),
    "RESTORE": ("RESTORE", 0, "x", "REPLACE"),
    "SORT STORE": ("SORT", "ALPHA", "STORE", "missions-x"),
    "LSET": ("LSET", 0, "x"),
    "LREM": ("LREM", 0, "x"),
    "RPOPLPUSH": ("RPOPLPUSH", "missions-x"),
    "LMOVE": ("LMOVE", "missions-x", "LEFT", "LEFT"),
    "SMOVE": ("SMOVE", "missions-x", "x"),
    "ZRANGESTORE": ("ZRANGESTORE", "missions-x", 0, -1),
    "HINCRBYFLOAT": ("HINCRBYFLOAT", "x", 1),
    "HSETNX": ("HSETNX", "x", 1),
    "GEOADD": ("GEOADD", 1, 1, "x"),
    "XDEL": ("XDEL", "1-1"),
    "XTRIM": ("XTRIM", "MAXLEN", 0),
    "XSETID": ("XSETID", "99999999999999-0"),
}
TARGETS = {
    "the queue": "missions",
    "an entry": ENTRY,
    "an index": Key.OPEN,
    "a line": Key.LINE + "normal:a",
    "a ring": Key.RING + "normal",
    "the audit": Key.AUDIT,
    "the chain of keys": Key.AUDIT_KEYS,
    "a result": RESULT,
    "a task's result": "celery-task-meta-1",
    "a quota": Key.QUOTA + "a",
    "a count of bytes": Key.STORED + "a",
    "the outcomes": Key.OUTCOMES,
    "a group": Key.GROUP + "a",
}
# The commands among these that a login needs for its work.
APPEND = {("RPUSH", "the audit"), ("LRANGE", "the audit"), ("LRANGE", "the chain of keys")}
FOLLOW = {("DEL", "a group"), ("EXPIRE", "a group")}
WORK = {
    "producer": {
        *FOLLOW,
        *(("SET", "a quota"), ("SET KEEPTTL", "a quota"), ("DEL", "a task's result"), ("RPUSH", "a line")),
    },
    "celery": {("DEL", "a task's result")},
    "worker": {
        *((verb, target) for verb in ("SET", "SET KEEPTTL") for target in ("a result", "a quota")),
        *(("SETEX", "a task's result"), ("EXPIRE", "an entry"), ("HDEL", "an entry"), ("RPUSH", "the queue")),
        *((verb, "the chain of keys") for verb in ("RPUSH", "LRANGE")),
        ("DEL", "a result"),
        *((verb, "a line") for verb in ("RPUSH", "LPOP", "UNLINK")),
        *((verb, "a count of bytes") for verb in ("DEL", "EXPIRE", "HDEL")),
        ("XTRIM", "the outcomes"),
    },
    "operator": {
        *APPEND,
        *FOLLOW,
        ("XDEL", "the outcomes"),
        ("DEL", "an entry"),
        ("RPUSH", "a line"),
        ("DEL", "a result"),
        ("HDEL", "an entry"),
        ("PERSIST", "an entry"),
        ("EXPIRE", "an entry"),
    },
    "rewrapper": {*APPEND, ("SET", "a result"), ("SET KEEPTTL", "a result")},
    "reader": {*APPEND, *FOLLOW},
    "auditor": {*APPEND, ("LTRIM", "the audit"), ("RPUSH", "the chain of keys"), ("LTRIM", "the chain of keys")},
}


@pytest.mark.parametrize("name", LOGINS)
def test_a_stolen_login_does_to_no_key_what_is_not_its_work(server: Server, name: str) -> None:
    with server.login(name) as client:
        found = {
            (attack, target)
            for attack, (verb, *rest) in ATTACKS.items()
            for target, key in TARGETS.items()
            if allowed(client, verb, key, *rest)
        }
    assert found == WORK.get(name, set())


def test_a_login_for_celery_does_nothing_that_a_producers_may_not_but_ask_for_info(server: Server) -> None:
    """So the results of the attack with a producer's login (tests/attack) apply to it as well."""
    cells = {("table", what, *command) for what, (command, _) in TABLE.items()}
    cells |= {
        (verb, target, verb, key, *rest) for verb, (verb, *rest) in ATTACKS.items() for target, key in TARGETS.items()
    }
    done = {}
    for name in ("celery", "producer"):
        with server.login(name) as client:
            done[name] = {cell[:2] for cell in cells if allowed(client, *cell[2:])}
    assert done["celery"] - done["producer"] == {("table", "facts of the server")}


def test_a_script_that_never_ends_cannot_be_started(server: Server) -> None:
    """With `script|load` and `evalsha`, one write and an endless loop made Redis answer BUSY, and UNKILLABLE to SCRIPT KILL."""
    endless = "redis.call('HSET', KEYS[1], 'a', 'b') while true do end"
    ways: list[tuple[Any, ...]] = [
        ("EVAL", endless, 1, ENTRY),
        ("SCRIPT", "LOAD", endless),
        ("EVALSHA", LOADED, 1, ENTRY),
        ("FCALL", "own", 1, ENTRY),
    ]
    for name in LOGINS:
        with server.login(name) as client:
            assert [way[0] for way in ways if allowed(client, *way)] == [], name
            assert allowed(client, "FUNCTION", "LOAD", OWN_LIBRARY) == (name == "deployer")
    assert server.admin.ping()


def test_a_function_that_never_ends_cannot_be_loaded(server: Server) -> None:
    """Redis itself aborts the loading of such a library."""
    with server.login("deployer") as client, pytest.raises(redis.ResponseError, match="timeout"):
        run(client, "FUNCTION", "LOAD", "#!lua name=endless\nwhile true do end")
    assert server.admin.ping()


def test_one_call_holds_the_server_for_so_many_missions_and_no_more(server: Server) -> None:
    """Endless arguments would have the effect of an endless script."""
    settings = Settings.from_env(redis_url=server.url("producer"))
    with server.login("producer") as client, pytest.raises(LedgerUnavailable, match="1024 missions"):
        Ledger(client, settings).admit([Admission(new_mission_id(), b"u", 99)] * 1025, "a")
    with server.login("worker") as client, pytest.raises(LedgerUnavailable, match="1024 ids"):
        Scripts(client).run("claim", 1, 1, 1, 60_000, 60, 1, 2, 2000, 10**12, *[new_mission_id()] * 1025)
    assert server.admin.zcard(Key.OPEN) == 0


def test_a_worker_writes_results_in_a_transaction_and_cannot_read_them_in_one(server: Server) -> None:
    with server.login("worker") as client, client.pipeline() as pipe:
        assert pipe.set(result_key(MISSION, 2), "x", ex=60).execute() == [True]
        with pytest.raises(redis.ResponseError, match=DENIED):
            pipe.get(RESULT).execute()


@pytest.mark.parametrize("name", [None, "default"])
def test_nobody_comes_in_without_a_login(server: Server, name: str | None) -> None:
    stranger = redis.Redis(port=server.port, username=name, password="admin-pw" if name else None)
    with stranger as client, pytest.raises(redis.AuthenticationError):
        client.ping()


@pytest.fixture
def site() -> Iterator[SampleSite]:
    """The sample site."""
    with SampleSite() as site:
        yield site


def worker_values(server: Server, site: SampleSite, identity: Identity) -> dict[str, str]:
    """The settings of a worker with its own login."""
    server.admin.flushall()
    return {
        "redis_url": server.url("worker"),
        "url_key": generate_url_key(),
        "recipient": identity.recipient.text,
        "allowed_hosts": f"127.0.0.1:{site.port}",
        "allowed_schemes": "http,https",
        "allowed_networks": "127.0.0.0/8",
        "metrics_port": "0",
        "metrics_host": "127.0.0.1",
    }


def test_the_main_job_needs_no_more_than_its_logins_have(server: Server, site: SampleSite, tmp_path: Path) -> None:
    identity = Identity.generate()
    values = worker_values(server, site, identity)
    # The in-flight missions of a worker that is gone.
    held = [json.loads(compose(STATUS, new_mission_id(), [MISSION], {})), "", "missions"]
    server.admin.hset(UNACKED, "tag", json.dumps(held))
    server.admin.zadd(UNACKED_INDEX, {"tag": 1})
    with running_worker(tmp_path, values) as child:
        wait_for(lambda: not server.admin.exists(UNACKED, UNACKED_INDEX), what="the message to be put back")
        missions = MissionClient(Settings.from_env(redis_url=server.url("producer"), url_key=values["url_key"]))
        many = [f"{site.url}/letter.txt?{n}" for n in range(40)]
        tickets = [missions.enqueue(f"{site.url}/letter.txt", idempotency_key="a"), *missions.enqueue_many(many)]
        assert all(isinstance(ticket, Ticket) for ticket in tickets)
        tickets.append(missions.enqueue(f"{site.url}/missing.txt"))
        states = [missions.wait(ticket.id, timeout=60).state for ticket in tickets if isinstance(ticket, Ticket)]
        assert states == [State.SUCCEEDED] * 41 + [State.FAILED]
        assert missions.stats().succeeded == 41
        for login in ("producer", "celery"):
            foreign = Celery("foreign", broker=server.url(login), backend=server.url(login), set_as_current=False)
            pending = foreign.send_task("decoder.submit", args=[f"{site.url}/map.txt"], queue="missions")
            assert pending.get(timeout=60)["state"] == "queued"
            assert missions.wait(pending.id, timeout=60).state is State.SUCCEEDED
            pending.forget()
            assert missions.wait(pending.id, timeout=60).state is State.SUCCEEDED
            asked = foreign.send_task("decoder.status", args=[pending.id], queue="missions")
            assert asked.get(timeout=60)["state"] == "succeeded"
            with pytest.raises(DecoderError, match="malformed_message"):
                foreign.send_task("decoder.status", args=["no id"], queue="missions").get(timeout=60)
        server.admin.lpush("missions", "not a message")
        wait_for(lambda: server.admin.exists(Key.QUARANTINE), what="the quarantine")
        with server.login("reader") as client:
            reader = ResultReader(client, [identity], AuditLog(client, emit=lambda line: None))
            assert len(reader.reveal(pending.id, reason="a test")) == 2
            today = datetime.now(UTC)
            listed = reader.results(today - timedelta(days=1), today + timedelta(days=1))
            assert pending.id in {result.id for result in listed}
            assert len(listed) == 43
            keys = AuditLog(client, chain=Key.AUDIT_KEYS)
            in_use = {(entry.actor.redis_user, entry.why) for entry in keys.entries()}
            assert in_use == {("worker", "DECODER_URL_KEY"), ("worker", "DECODER_RECIPIENT")}
            assert keys.verify() == []
        child.process.terminate()
        assert child.process.wait(timeout=40) == 0
    assert server.refused() == set()


def test_a_worker_pauses_a_host_probes_it_and_opens_it_again(server: Server) -> None:
    server.admin.flushall()
    with server.login("worker") as client:
        ledger = Ledger(client, Settings.from_env(redis_url=server.url("worker")))
        for n in range(1030):  # more than the ledger keeps
            ledger.host_failed(f"other {n}", "app", 5, 30)
        assert [ledger.host_failed("dead", "app", 2, 0.001) for _ in range(2)] == [False, True]
        assert "dead" in ledger.hosts()
        wait_for(lambda: ledger.host_probe("dead", 30), what="the pause to end")
        ledger.admit([Admission(new_mission_id(), b"u", 60)], "app")
        (claim,) = ledger.claim(1, 60).claims
        ledger.release([Release(claim.id, claim.token, Reason.HOST_PAUSED, 0.0, False, "dead")], 5)
        ledger.host_reached("dead")
        assert "dead" not in ledger.hosts()
        wait_for(lambda: ledger.take_due(10)[0] == [claim.id], what="the mission that waited for it")
    assert server.refused() == set()


def test_an_operator_looks_after_dead_letters_forgets_and_keeps_the_audit(server: Server) -> None:
    server.admin.flushall()
    settings = Settings.from_env(redis_url=server.url("operator"))
    with server.login("worker") as client:
        ledger = Ledger(client, settings)
        ids = [answer.id for answer in ledger.admit([Admission(new_mission_id(), b"u", 99) for _ in range(3)], "a")]
        claims = ledger.claim(3, 60).claims
        ledger.release([Release(claim.id, claim.token, Reason.READ_TIMEOUT, 0) for claim in claims], 1)
    server.admin.set(result_key(ids[2], 1), "x")
    with server.login("operator") as client:
        audit = AuditLog(client, emit=lambda line: None)
        letters = DeadLetters(client, settings, audit)
        assert {letter.id for letter in letters.find()} == set(ids)
        assert letters.replay(ids[0], why="a test")
        assert letters.discard(ids[1], why="a test")
        assert forget(client, settings, audit, ids[2], why="a test") == 1
        assert Ledger(client, settings).stats().retrying == 1
        assert len(audit.entries()) == 6
        assert audit.verify() == []
    assert server.refused() == set()


def test_the_auditor_alone_cuts_and_mends(server: Server) -> None:
    server.admin.flushall()
    with server.login("reader") as client:
        reader = AuditLog(client, emit=lambda line: None)
        reader.append("reveal", mission_id=None, key_id=None, why="a test", outcome="started")
        with pytest.raises(AuditError, match="may not do that; use the login auditor"):
            wait_for(lambda: reader.trim(0.001, why="a test"), what="the entry to be old")
        assert len(reader.entries()) == 1
        client.rpush(Key.AUDIT, "x")
    with server.login("worker") as client:
        AuditLog(client, emit=lambda line: None, chain=Key.AUDIT_KEYS).append(
            "key-change", mission_id=None, key_id=None, why="a test", outcome="in use"
        )
    with server.login("auditor") as client:
        for chain in (Key.AUDIT, Key.AUDIT_KEYS):
            audit = AuditLog(client, emit=lambda line: None, chain=chain)
            audit.mend(why="a test")
            assert all(finding.known for finding in audit.verify())
            wait_for(lambda: audit.trim(0.001, why="a test"), what="the entries to be old")  # noqa: B023 (called here)
            assert {entry.action for entry in audit.entries()} <= {"trim", "mend"}
            assert audit.verify() == []
    assert server.refused() == {("reader", "fcall")}


def test_a_worker_sets_aside_what_is_in_everybodys_way_and_an_operator_repairs_the_rest(server: Server) -> None:
    server.admin.flushall()
    for key in TYPES:
        run(server.admin, *(("LPUSH", key, "x") if TYPES[key] == "string" else ("SET", key, "x")))
    settings = Settings.from_env(redis_url=server.url("operator"))
    with server.login("worker") as client:
        ledger = Ledger(client, settings)
        assert {mended.key for mended in ledger.mend(120, 4000)} >= set(TYPES)
        (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 99)], "a")
        assert ledger.damaged() == 0
    for index in INDEXES:
        server.admin.delete(index)
    server.admin.set(entry_key(new_mission_id()), "x")
    with server.login("operator") as client:
        audit = AuditLog(client, emit=lambda line: None)
        done = repair(client, settings, audit, why="a test", lease_seconds=60)
        assert (done.indexed, done.damaged) == (1, 1)
        assert Ledger(client, settings).stats().queued == 1
    assert server.admin.zscore(Key.QUEUED, answer.id) is not None
    assert server.refused() == set()


def test_flower_shows_tasks_workers_and_queues(server: Server, site: SampleSite, tmp_path: Path) -> None:
    pytest.importorskip("flower")
    values = worker_values(server, site, Identity.generate())
    (tmp_path / "flower").mkdir()
    with (
        running_flower(tmp_path / "flower", values | {"redis_url": server.url("flower")}) as flower,
        running_worker(tmp_path, values),
    ):
        wait_for(server.admin.pubsub_numpat, what="Flower to listen")
        client = MissionClient(Settings.from_env(redis_url=server.url("producer"), url_key=values["url_key"]))
        client.enqueue(f"{site.url}/letter.txt")

        def page(path: str) -> str:
            login = base64.b64encode(flower.login.encode()).decode()
            request = urllib.request.Request(flower.url + path, headers={"Authorization": f"Basic {login}"})
            with urllib.request.urlopen(request, timeout=30) as answer:
                return str(answer.read().decode())

        wait_for(lambda: '"SUCCESS"' in page("/api/tasks"), what="the task in Flower")
        assert '"task-succeeded"' in page("/workers?json=1")
        assert '"missions"' in page("/api/queues/length")
        page(f"/worker/{next(iter(json.loads(page('/api/tasks')).values()))['worker']}")
    assert server.refused() == set()


def test_the_doctor_finds_the_workers_login_good(server: Server) -> None:
    found = {f.check: f.level for f in examine(WorkerSettings.from_env(redis_url=server.url("worker")))}
    checks = (
        "redis",
        "version",
        "role",
        "eviction",
        "aof",
        "replicas",
        "login",
        "functions",
        "results",
        "outcomes",
        "clock",
    )
    assert {name: found[name] for name in checks} == dict.fromkeys(checks, Level.OK)


@pytest.mark.parametrize("program", ["embedded", "redis-server"])
def test_a_server_reads_the_lines_as_its_acl_file(tmp_path: Path, program: str) -> None:
    found = shutil.which(program) if program == "redis-server" else server_program()
    if found is None:
        pytest.skip("no redis-server on PATH")
    file, socket = tmp_path / "users.acl", tmp_path / "redis.sock"
    file.write_text("\n".join([*acl_lines({"metrics": "metrics-pw"}), "user admin on >pw ~* &* +@all", ""]))
    arguments = ["--port", "0", "--unixsocket", str(socket), "--aclfile", str(file), "--save", ""]
    with subprocess.Popen([found, *arguments], cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: socket.exists() or process.poll() is not None, what="the server")
            assert process.poll() is None
            with redis.Redis(unix_socket_path=str(socket), username="metrics", password="metrics-pw") as client:
                assert client.info("server")["redis_version"]
            with redis.Redis(unix_socket_path=str(socket), username="admin", password="pw") as client:
                assert {name for name in LOGINS if "on" in client.acl_getuser(name)["flags"]} == {"metrics"}
                assert "off" in client.acl_getuser("default")["flags"]
        finally:
            process.terminate()


def test_the_lines_hold_no_password() -> None:
    assert "s3cret" not in "\n".join(acl_lines(dict.fromkeys(LOGINS, "s3cret")))


def test_no_login_has_a_whole_category_of_commands_or_all_keys() -> None:
    rules = " ".join(acl_lines({})).replace("(", " ").replace(")", " ").split()
    assert not [rule for rule in rules if rule.startswith(("+@", "allkeys", "allcommands", "nopass")) or rule == "~*"]


@pytest.mark.parametrize("passwords", [{"root": "x"}, {"worker": ""}])
def test_a_login_that_is_not_there_or_has_no_password_is_refused(passwords: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=", ".join(LOGINS)):
        acl_lines(passwords)
