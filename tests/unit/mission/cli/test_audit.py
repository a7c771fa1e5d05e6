from __future__ import annotations

import json
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from mission.audit.entry import Actor
from mission.audit.log import AuditLog
from mission.cli.audit import audit
from mission.cli.console import Commands
from mission.settings import Settings
from mission.store.names import Key
from tests.conftest import wait_for

MISSION = "0f8fad5b-d9cb-469f-a165-70867728950e"
OTHER = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

main = Commands(commands=[audit])


@pytest.fixture
def lines(client: redis.Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The log of an audit with three entries, which the command finds by the environment."""
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())
    log: list[str] = []
    writer = AuditLog(client, Actor("reader", "anna", "desk-1"), log.append)
    for mission_id, why in ((MISSION, "incident 4711"), (MISSION, "\x1b[2Jsteer"), (OTHER, "audit")):
        writer.append("reveal", mission_id=mission_id, key_id="00ff", why=why, outcome="opened")
    return log


def _run(*arguments: str, log: str | None = None) -> Result:
    return CliRunner().invoke(main, ["audit", *arguments], input=log)


def _seqs(*arguments: str) -> list[int]:
    """The numbers of the entries that `show` prints; the table has the same ones."""
    rows = [json.loads(line)["seq"] for line in _run("show", "--json", *arguments).stdout.splitlines()]
    _, *table = _run("show", *arguments).stdout.splitlines()
    assert [int(line.split()[0]) for line in table] == rows
    return rows


def test_show_prints_the_entries_newest_first(lines: list[str]) -> None:
    rows = [json.loads(line) for line in _run("show", "--json").stdout.splitlines()]
    assert [row["seq"] for row in rows] == [3, 2, 1]
    assert rows[1]["hash"] == rows[0]["prev"]


def test_show_prints_the_newest_of_one_mission(lines: list[str]) -> None:
    assert _seqs("--mission", MISSION, "--limit", "1") == [2]


@pytest.fixture
def history(client: redis.Redis, lines: list[str]) -> None:
    """Add three entries of another person: one that is years old, one of now, and one without a valid time."""
    writer = AuditLog(client, Actor("operator", "bert", "desk-2"), lambda _: None)
    for action, at in (("forget", "2020-02-01T00:00:00.000Z"), ("replay", None), ("discard", "whenever")):
        with pytest.MonkeyPatch.context() as patch:
            if at is not None:
                patch.setattr("mission.audit.log._now", lambda at=at: at)
            writer.append(action, mission_id=OTHER, key_id=None, why="a test", outcome="done")


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("arguments", "seqs"),
    [
        (["--user", "reader"], [3, 2, 1]),
        (["--user", "bert"], [6, 5, 4]),
        (["--user", "bert@desk-2"], [6, 5, 4]),
        (["--user", "nobody"], []),
        (["--action", "replay"], [5]),
        (["--action", "reveal", "--mission", OTHER], [3]),
        (["--since", "1h"], [6, 5, 3, 2, 1]),  # an entry without a valid time is not known to be older
        (["--until", "1h"], [6, 4]),
        (["--since", "2020-01-01T00:00:00Z", "--until", "2020-03-01T01:00:00+01:00"], [6, 4]),
        (["--until", "2020-02-01T00:00:00Z"], [6]),  # the end is exclusive
        (["--since", "2020-02-01T00:00:00Z", "--user", "operator", "--action", "forget"], [4]),
        (["--limit", "2"], [6, 5]),
        (["--limit", "0"], [6, 5, 4, 3, 2, 1]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value[0], str) else "",
)
def test_show_selects_by_person_action_and_time(arguments: list[str], seqs: list[int]) -> None:
    assert _seqs(*arguments) == seqs


def test_show_prints_fifty_and_says_that_there_are_more(lines: list[str], client: redis.Redis) -> None:
    writer = AuditLog(client, Actor("reader", "anna", "desk-1"), lambda _: None)
    for _ in range(47):
        writer.append("reveal", mission_id=MISSION, key_id=None, why="a test", outcome="opened")
    assert _run("show").stderr == ""
    writer.append("reveal", mission_id=MISSION, key_id=None, why="a test", outcome="opened")
    result = _run("show", "--json")
    assert len(result.stdout.splitlines()) == 50
    assert result.stderr == "note: there are older entries; --limit N prints more, --limit 0 all\n"


@pytest.mark.parametrize("time", ["yesterday", "-1h", "2026-11-28T10:00:00", "99999999d", "2026-13-01T00:00:00Z"])
@pytest.mark.parametrize("option", ["--since", "--until"])
def test_a_time_that_is_none_is_a_usage_error(option: str, time: str) -> None:
    result = _run("show", option, time)
    assert result.exit_code == 2
    assert "takes how long ago, like 2h, or a time like 2026-11-28T10:00:00Z" in result.stderr


def test_the_table_shows_who_and_why_and_steers_no_terminal(lines: list[str]) -> None:
    output = _run("show").stdout
    assert "anna@desk-1" in output
    assert "incident 4711" in output
    assert "\x1b" not in output


def test_verify_says_that_the_audit_is_whole(lines: list[str]) -> None:
    result = _run("verify", "--log", "-", log="\n".join(lines))
    assert (result.exit_code, result.stdout) == (0, "the audit is intact\n")


def test_verify_without_a_log_says_what_it_did_not_look_at(lines: list[str]) -> None:
    whole, unknown = _run("verify").stdout.splitlines()
    assert whole == "the audit is consistent in itself"
    assert unknown.startswith("not_checked: no log given")
    (line,) = _run("verify", "--json").stdout.splitlines()
    assert json.loads(line)["kind"] == "not_checked"


def test_verify_ends_with_1_and_a_line_for_each_finding(lines: list[str], client: redis.Redis) -> None:
    client.delete(Key.AUDIT)
    result = _run("verify", "--json", "--log", "-", log="\n".join(lines))
    assert result.exit_code == 1
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()] == ["removed"]


def test_verify_in_words(lines: list[str], client: redis.Redis, tmp_path: Path) -> None:
    (tmp_path / "audit.log").write_text("another line\n" + lines[0].replace("4711", "0815") + "\n")
    result = _run("verify", "--log", str(tmp_path / "audit.log"))
    assert (result.exit_code, result.stdout) == (
        1,
        "log_changed: the hash on line 2 of the log does not match its content\n",
    )


@pytest.fixture
def key_lines(client: redis.Redis, lines: list[str]) -> list[str]:
    """The log of the chain of keys, with one entry."""
    log: list[str] = []
    writer = AuditLog(client, Actor("worker", "decoder", "pod-1"), log.append, Key.AUDIT_KEYS)
    writer.append("key-change", mission_id=None, key_id="00aa>00bb", why="DECODER_RECIPIENT", outcome="in use")
    return log


def test_show_prints_which_keys_were_used_apart(key_lines: list[str]) -> None:
    (row,) = _run("show", "--keys", "--json").stdout.splitlines()
    assert json.loads(row)["key_id"] == "00aa>00bb"
    assert "00bb" not in _run("show").stdout


def test_verify_looks_at_both_chains_with_one_log(
    lines: list[str], key_lines: list[str], client: redis.Redis, tmp_path: Path
) -> None:
    (tmp_path / "all.log").write_text("\n".join([*key_lines, "another line", *lines]) + "\n")
    command = ["verify", "--log", str(tmp_path / "all.log")]
    assert _run(*command).stdout == "the audit is intact\n"
    client.delete(Key.AUDIT_KEYS)
    result = _run(*command)
    assert (result.exit_code, result.stdout) == (
        1,
        "removed: 1 entries of the log are missing, 1 to 1 (chain of keys)\n",
    )
    assert json.loads(_run(*command, "--json").stdout)["chain"] == "keys"


def test_mend_brings_verify_back_to_whole_and_hides_nothing(lines: list[str], client: redis.Redis) -> None:
    client.rpush(Key.AUDIT, "x", "y")
    assert _run("verify").exit_code == 1
    said = _run("mend", "--reason", "incident 4711").stdout
    assert said == "inserted: an element after entry 3 is not an audit entry (2 elements there do not fit the chain)\n"
    result = _run("verify", "--log", "-", log="\n".join(lines))
    assert (result.exit_code, result.stdout.splitlines()[1]) == (0, "the audit is intact")
    assert result.stdout.startswith("known: inserted: an element after entry 3")
    assert "by default: incident 4711" in result.stdout
    assert json.loads(_run("verify", "--json").stdout.splitlines()[0])["known"].endswith("incident 4711")


def test_trim_cuts_both_chains_by_the_setting(
    key_lines: list[str], client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run("trim").stdout.splitlines()[0] == "removed 0 from the chain of people: older than 365d"
    monkeypatch.setenv("DECODER_AUDIT_TTL", "1ms")

    def trimmed() -> bool:
        return _run("trim").exit_code == 0 and client.llen(Key.AUDIT) + client.llen(Key.AUDIT_KEYS) == 2

    wait_for(trimmed, what="the entries to be old")
    assert [json.loads(line)["action"] for line in _run("show", "--json").stdout.splitlines()] == ["trim"]
    assert _run("verify").exit_code == 0


def test_a_redis_that_is_away_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", "redis://127.0.0.1:1/0")
    result = _run("verify")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the audit could not be read")
    assert result.stderr.count("\n") == 1
