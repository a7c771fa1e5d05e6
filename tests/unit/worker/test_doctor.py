from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from click.testing import CliRunner

from mission.cli.console import Commands
from mission.ids import new_mission_id
from mission.seal.key_files import write_key_file
from mission.seal.sealing import Identity
from mission.seal.suites import X25519
from mission.seal.url_keys import generate_url_key
from mission.store import library
from mission.store.acl import LOGINS
from mission.store.connection import connect
from mission.store.names import Key
from tests.conftest import wait_for
from tests.servers.misbehaving import MisbehavingServer
from tests.servers.proxies import PlayingProxy, hangs, refuses
from worker.commands.doctor import doctor
from worker.doctor import Level, examine
from worker.local.embedded import EmbeddedRedis
from worker.settings import WorkerSettings

pytestmark = pytest.mark.server("INFO, CONFIG and other logins")

main = Commands(commands=[doctor])

IDENTITY = Identity(X25519, b"i" * 32)
Configure = Callable[..., None]


@pytest.fixture
def good(redis_server: EmbeddedRedis, rules_cache: Path) -> dict[str, Any]:
    """Settings fit for production, on a Redis that is correct except for its login."""
    return {
        "redis_url": redis_server.url,
        "url_key": generate_url_key(),
        "recipient": IDENTITY.recipient.text,
        "allowed_hosts": "docs.example.com",
        "rules_cache": str(rules_cache),
        "detectors": "marker",  # rules load slowly: only the tests about them use them
    }


@pytest.fixture
def configure(client: redis.Redis) -> Iterator[Configure]:
    """Set options of the server and restore them afterwards."""
    before: dict[str, str] = {}

    def change(**options: str) -> None:
        for option, value in options.items():
            name = option.replace("_", "-")
            before.setdefault(name, str(client.config_get(name)[name]))
            client.config_set(name, value)

    yield change
    for name, value in before.items():
        client.config_set(name, value)


@contextmanager
def login(client: redis.Redis, server: EmbeddedRedis, *rules: str) -> Iterator[str]:
    """The URL of a user with these rights."""
    admin: Any = client  # redis-py leaves execute_command untyped
    admin.execute_command("ACL", "SETUSER", "tester", "on", ">pw", *rules)
    try:
        yield f"redis://tester:pw@127.0.0.1:{server.port}/0"
    finally:
        client.acl_deluser("tester")


def levels(values: dict[str, Any]) -> dict[str, Level]:
    return {finding.check: finding.level for finding in examine(WorkerSettings.from_env(**values))}


def detail(values: dict[str, Any], check: str) -> str:
    return next(f.detail for f in examine(WorkerSettings.from_env(**values)) if f.check == check)


def test_a_good_set_up_has_no_failure(good: dict[str, Any]) -> None:
    found = levels(good)
    assert Level.FAIL not in found.values()
    assert {name for name, level in found.items() if level is Level.WARN} == {"memory", "login", "results"}


@pytest.mark.parametrize(
    ("check", "values", "level"),
    [
        ("url-key", {"url_key": None}, Level.FAIL),
        ("url-key", {"url_key": "nonsense"}, Level.FAIL),
        ("recipient", {"recipient": None}, Level.FAIL),
        ("recipient", {"recipient": "nonsense"}, Level.FAIL),
        ("identity", {"identity_file": Path("reader.key")}, Level.FAIL),
        ("identity", {"identity_file": Path("reader.key"), "recipient": None}, Level.WARN),
        ("allowlist", {"allowed_hosts": ""}, Level.FAIL),
        ("networks", {"allowed_networks": "10.1.0.0/16"}, Level.WARN),
        ("schemes", {"allowed_schemes": "http,https"}, Level.WARN),
        ("credentials", {"credentials": Path("nowhere.toml")}, Level.FAIL),
        ("lease", {"lease_seconds": "2h"}, Level.WARN),
        ("retention", {"result_ttl": "31d"}, Level.WARN),
        ("documents", {"memory": "200MiB"}, Level.FAIL),
        ("replicas", {"redis_replicas": 1}, Level.FAIL),
    ],
)
def test_a_setting_that_production_should_not_have_is_found(
    good: dict[str, Any], check: str, values: dict[str, Any], level: Level
) -> None:
    assert levels(good)[check] is Level.OK
    assert levels(good | values)[check] is level


def proxy_check(good: dict[str, Any], proxy: str, **values: Any) -> tuple[Level, str]:
    values = good | {"egress_proxy": proxy, "connect_timeout": 0.5} | values
    return next((f.level, f.detail) for f in examine(WorkerSettings.from_env(**values)) if f.check == "proxy")


def test_whether_the_egress_proxy_lets_workers_out_is_found(good: dict[str, Any]) -> None:
    assert levels(good)["proxy"] is Level.OK
    password = uuid4().hex
    with PlayingProxy(MisbehavingServer(), refuses("403 Forbidden")) as proxy:
        assert proxy_check(good, proxy.setting()) == (Level.OK, "the proxy answers")
        assert set(proxy.asked) == {"255.255.255.255:443"}
        for login, resolve, told in (
            (f"user:{password}", "worker", "the password goes to the proxy unencrypted"),
            ("", "proxy", "the proxy must refuse private ones"),
        ):
            level, said = proxy_check(good, proxy.setting(login), egress_resolve=resolve)
            assert level is Level.WARN
            assert told in said
        for manner, told in (
            (refuses("407 Proxy Authentication Required"), "the proxy refuses the login"),
            (hangs, "is unreachable, or does not answer"),
        ):
            proxy.manner = manner
            level, said = proxy_check(good, proxy.setting(f"user:{password}"))
            assert level is Level.FAIL
            assert told in said
            assert password not in said
    assert proxy_check(good, "http://127.0.0.1:1")[0] is Level.FAIL


ALL = {"detectors": "marker,provider,generic"}


def detectors(values: dict[str, Any]) -> tuple[Level, str]:
    """The result of the check of detectors; the later checks of Redis do not run."""
    return next(
        (each.level, each.detail) for each in examine(WorkerSettings.from_env(**values)) if each.check == "detectors"
    )


def test_detectors_that_work_are_named(good: dict[str, Any], tmp_path: Path) -> None:
    assert detectors(good | ALL) == (Level.OK, "marker, provider, generic")
    (pack := tmp_path / "mine.toml").write_text("[[rules]]\nid = 'acme'\nregex = 'acme-[0-9]{8}'\n")
    detectors(good | {"rules": str(pack)})  # compiles them
    assert detectors(good | {"rules": str(pack), "detectors": "generic"}) == (Level.OK, "pack:mine, generic")


def test_rules_that_are_compiled_anew_are_found(good: dict[str, Any], tmp_path: Path) -> None:
    level, told = detectors(good | {"rules_cache": str(tmp_path / "empty"), "detectors": "marker,generic"})
    assert level is Level.WARN
    assert told.startswith("marker, generic; the rules of generic were recompiled")


def test_an_engine_that_is_not_installed_is_found(
    good: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.extract.detectors.engine_installed", lambda: False)
    level, told = detectors(good | ALL)
    assert level is Level.WARN
    assert "kingfisher-secret-scanner" in told
    assert told.endswith("off: provider, generic")
    assert detectors(good | {"detectors": "marker"}) == (Level.OK, "marker")
    (pack := tmp_path / "mine.toml").write_text("[[rules]]\nid = 'acme'\nregex = 'acme-[0-9]{8}'\n")
    assert detectors(good | {"rules": str(pack)})[0] is Level.FAIL


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ("[[rules]]\nid = 'acme'\nregex = '('\n", "mine.toml:2: acme: "),
        ("words", "mine.toml:1: is not a rule pack"),
    ],
)
def test_a_bad_pack_fails_with_its_line(good: dict[str, Any], tmp_path: Path, rules: str, told: str) -> None:
    (pack := tmp_path / "mine.toml").write_text(rules)
    level, said = detectors(good | {"rules": str(pack)})
    assert level is Level.FAIL
    assert told in said


@pytest.mark.parametrize(
    ("check", "options", "level"),
    [
        ("eviction", {"maxmemory_policy": "allkeys-lru"}, Level.FAIL),
        ("aof", {"appendonly": "no"}, Level.FAIL),
        ("fsync", {"appendfsync": "everysec"}, Level.WARN),
        ("fsync", {"appendfsync": "no"}, Level.WARN),
        ("memory", {"maxmemory": "1gb"}, Level.OK),
        ("memory", {"maxmemory": "1mb"}, Level.WARN),
    ],
)
def test_a_server_that_is_set_up_badly_is_found(
    good: dict[str, Any], configure: Configure, check: str, options: dict[str, str], level: Level
) -> None:
    configure(**options)
    assert levels(good)[check] is level


def test_a_redis_that_is_away_fails_and_ends_the_checks_of_it(good: dict[str, Any]) -> None:
    found = levels(good | {"redis_url": "redis://127.0.0.1:1/0"})
    assert list(found.items())[-1] == ("redis", Level.FAIL)
    assert found["recipient"] is Level.OK


def test_a_redis_that_goes_away_meanwhile_fails_and_ends_the_checks_of_it(
    good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise redis.ConnectionError("gone")

    monkeypatch.setattr(redis.Redis, "info", away)
    found = levels(good)
    assert found["redis"] is Level.FAIL
    assert "version" not in found


def test_a_bad_password_fails_without_being_shown(good: dict[str, Any], redis_server: EmbeddedRedis) -> None:
    values = good | {"redis_url": f"redis://:hunter2@127.0.0.1:{redis_server.port}/0"}
    assert levels(values)["redis"] is Level.FAIL
    assert "hunter2" not in detail(values, "redis")


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("rediss://redis.example.com/0", Level.OK),
        ("rediss+sentinel://a.example.com,b.example.com/main", Level.OK),
        ("redis://redis.example.com/0", Level.WARN),
        ("redis://[::1]:1/0", Level.OK),
        ("redis://localhost:1/0", Level.OK),
        ("sentinel://localhost,redis.example.com/main", Level.WARN),
    ],
)
def test_a_connection_in_clear_to_another_machine_is_found(good: dict[str, Any], url: str, level: Level) -> None:
    checks = examine(WorkerSettings.from_env(**good | {"redis_url": url}))
    assert next(finding.level for finding in checks if finding.check == "tls") is level


def test_a_login_that_may_write_results_but_not_read_them_is_ok(
    good: dict[str, Any], client: redis.Redis, redis_server: EmbeddedRedis
) -> None:
    with login(client, redis_server, "+@all", "%W~{decoder}:r:*") as url:
        found = levels(good | {"redis_url": url})
        assert detail(good | {"redis_url": url}, "login") == "this is tester"
    assert (found["login"], found["results"]) == (Level.OK, Level.OK)


def test_a_login_of_few_rights_sees_what_it_can_and_says_what_it_cannot(
    good: dict[str, Any], client: redis.Redis, redis_server: EmbeddedRedis
) -> None:
    with login(client, redis_server, "+ping", "+info", "+time") as url:
        found = levels(good | {"redis_url": url})
    assert {name for name, level in found.items() if level is not Level.OK} == {
        "memory",
        "fsync",
        "listpack",
        "functions",
        "outcomes",
        "damage",
    }


def test_a_worker_that_may_not_tell_how_missions_end_is_found(
    good: dict[str, Any], client: redis.Redis, redis_server: EmbeddedRedis
) -> None:
    assert levels(good)["outcomes"] is levels(good | {"redis_url": redis_server.login_url("worker")})["outcomes"]
    assert levels(good)["outcomes"] is Level.OK
    with login(client, redis_server, "+@all", "~*", "-xtrim") as url:
        assert levels(good | {"redis_url": url})["outcomes"] is Level.WARN
        assert "this Redis user may not do that" in detail(good | {"redis_url": url}, "outcomes")


def test_functions_that_are_missing_or_older_are_found_where_the_login_may_not_load_them(
    good: dict[str, Any], client: redis.Redis, redis_server: EmbeddedRedis
) -> None:
    worker = good | {"redis_url": redis_server.login_url("worker")}
    try:
        client.function_flush()
        assert levels(good)["functions"] is Level.OK
        assert levels(worker)["functions"] is Level.FAIL
        client.function_load(library.source().replace(f"return {library.LIBRARY}\n", f"return {library.LIBRARY - 1}\n"))
        assert "older than" in detail(worker, "functions")
    finally:
        client.function_flush()
        library.load(client)
    assert levels(worker)["functions"] is Level.OK


def test_a_login_that_sees_nothing_gets_warnings(
    good: dict[str, Any], client: redis.Redis, redis_server: EmbeddedRedis
) -> None:
    with login(client, redis_server, "+ping") as url:
        found = levels(good | {"redis_url": url})
    assert Level.FAIL not in found.values()
    assert {found[name] for name in ("version", "eviction", "aof", "memory", "replicas", "clock")} == {Level.WARN}


def findings(login: str, server: EmbeddedRedis, **values: Any) -> dict[str, tuple[Level, str]]:
    """The findings for a login of the ACL file, with only these settings."""
    found = examine(WorkerSettings.from_env(redis_url=server.login_url(login), **values))
    return {finding.check: (finding.level, finding.detail) for finding in found}


NEEDS: dict[str, dict[str, str]] = {"producer": {"url_key": generate_url_key()}}
INFO = {"version", "role", "eviction", "memory", "aof", "replicas"}


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize(
    ("login", "sees"),
    {
        "producer": set(),
        "celery": INFO,
        "reader": set(),
        "operator": INFO | {"damage"},
        "rewrapper": set(),
        "flower": set(),
        "metrics": INFO,
        "auditor": set(),
        "deployer": set(),
    }.items(),
)
def test_each_login_is_judged_by_what_is_its_own_and_told_what_is_not(
    login: str, sees: set[str], redis_server: EmbeddedRedis
) -> None:
    found = findings(login, redis_server, **NEEDS.get(login, {}))
    assert {check for check, (level, _) in found.items() if level is Level.FAIL} == set()
    not_its = {check for check, told in found.items() if told == (Level.SKIP, "this login may not check it")}
    assert not_its - {"clock"} == (INFO | {"fsync", "listpack", "functions", "outcomes", "damage"}) - sees
    for name in ("allowlist", "proxy"):
        assert found[name] == (Level.SKIP, "for a worker to set, not for this login")
    assert found["results"][0] is Level.OK


def test_a_producer_without_a_url_key_and_a_reader_with_a_bad_identity_fail(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    assert findings("producer", redis_server)["url-key"][0] is Level.FAIL
    assert findings("reader", redis_server)["identity"][0] is Level.WARN
    (file := tmp_path / "reader.key").write_text("nonsense")
    file.chmod(0o600)
    assert findings("reader", redis_server, identity_file=file)["identity"][0] is Level.FAIL
    file.unlink()
    write_key_file(file, IDENTITY.line)
    told = findings("reader", redis_server, identity_file=file)["identity"]
    assert told == (Level.OK, f"opens what is sealed to key {IDENTITY.key_id.hex()}")


def test_a_login_that_has_lost_its_rights_fails_where_its_work_takes_them(
    client: redis.Redis, redis_server: EmbeddedRedis
) -> None:
    admin: Any = client  # redis-py leaves execute_command untyped
    admin.execute_command("ACL", "SETUSER", "reader", "clearselectors")
    try:
        assert findings("reader", redis_server)["results"][0] is Level.FAIL
    finally:
        admin.execute_command("ACL", "SETUSER", "reader", *LOGINS["reader"].rules().split(" (")[0].split())
        for selector in LOGINS["reader"].rules().split(" (")[1:]:
            admin.execute_command("ACL", "SETUSER", "reader", f"({selector}")
    assert findings("reader", redis_server)["results"][0] is Level.OK


def test_entries_that_take_twice_the_memory_are_found(good: dict[str, Any], configure: Configure) -> None:
    assert levels(good)["listpack"] is Level.OK
    configure(hash_max_listpack_value="64")
    assert levels(good)["listpack"] is Level.WARN
    assert "set 1024" in detail(good, "listpack")


def test_a_replica_is_no_place_to_write_to_and_counts_where_it_replicates(
    good: dict[str, Any], redis_server: EmbeddedRedis, configure: Configure
) -> None:
    configure(repl_diskless_sync_delay="0")  # by default the server waits 5 s for more replicas
    with EmbeddedRedis() as second, redis.Redis.from_url(second.url) as replica:
        password = redis_server.url.partition("@")[0].rpartition(":")[2]
        replica.config_set("masterauth", password)
        replica.execute_command("REPLICAOF", "127.0.0.1", redis_server.port)
        wanted = good | {"redis_replicas": 1}
        wait_for(lambda: levels(wanted)["replicas"] is Level.OK, what="the replica to connect")
        assert levels(good | {"redis_url": second.url})["role"] is Level.FAIL


def test_a_clock_that_is_off_is_found(good: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with connect(WorkerSettings.from_env(**good)) as client:
        now = client.time()[0]
    assert levels(good)["clock"] is Level.OK
    monkeypatch.setattr("worker.doctor.server.time.time", lambda: now - 600.0)
    assert levels(good)["clock"] is Level.WARN
    assert "+60" in detail(good, "clock")


def test_what_somebody_wrote_over_is_found_and_repaired_on_record(
    client: redis.Redis, good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    _environment(monkeypatch, good)
    assert levels(good)["damage"] is Level.OK
    client.set("missions", "x")
    client.hset(Key.DAMAGED, mapping={new_mission_id(): "wrong type"})
    assert levels(good)["damage"] is Level.FAIL
    assert "'missions' is a string; 1 missions" in detail(good, "damage")
    repaired = CliRunner().invoke(main, ["doctor", "--repair", "--reason", "a test", "--json"])
    assert json.loads(repaired.stdout) == {
        "keys": [{"key": "missions", "was": "string"}],
        "indexed": 0,
        "damaged": 0,
        "gone": 0,
    }
    assert levels(good)["damage"] is Level.OK
    again = CliRunner().invoke(main, ["doctor", "--repair", "--reason", "a test"])
    assert again.stdout == "0 missions reindexed, 0 damaged ones moved aside, 0 without an entry dropped\n"
    assert client.llen(Key.AUDIT) == 4


@pytest.mark.parametrize("arguments", [["--repair"], ["--reason", "a test"], ["--repair", "--reason", " "]])
def test_a_repair_without_a_reason_is_none(
    client: redis.Redis, good: dict[str, Any], monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    _environment(monkeypatch, good)
    assert CliRunner().invoke(main, ["doctor", *arguments]).exit_code == 2
    assert client.dbsize() == 0


def _environment(monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"DECODER_{name.upper()}", value)


def test_the_command_prints_a_line_a_check(good: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _environment(monkeypatch, good)
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [
        finding.level.value for finding in examine(WorkerSettings.from_env())
    ]


def test_the_command_ends_with_1_when_a_must_fails(good: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    _environment(monkeypatch, good | {"allowed_hosts": ""})
    result = CliRunner().invoke(main, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL  allowlist " in result.stdout


def test_no_key_and_no_password_is_ever_shown(
    good: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_key_file(tmp_path / "reader.key", IDENTITY.line)
    value, file = secrets.token_urlsafe(24), tmp_path / "credentials.toml"
    file.touch(0o600)
    file.write_text(f'["docs.example.com".headers]\nX-Api-Key = "{value}"\n')
    files = {"identity_file": str(tmp_path / "reader.key"), "credentials": str(file)}
    _environment(monkeypatch, good | files)
    output = CliRunner().invoke(main, ["doctor", "--json"]).output
    rows = [json.loads(line) for line in output.splitlines()]
    assert all(set(row) == {"check", "level", "detail"} for row in rows)
    assert {row["level"] for row in rows} == {"ok", "warn", "fail"}
    password = good["redis_url"].partition("@")[0].rpartition(":")[2]
    assert {"check": "credentials", "level": "ok", "detail": "for docs.example.com"} in rows
    for secret in (IDENTITY.text, good["url_key"], password, value):
        assert secret.rpartition(":")[2] not in output
