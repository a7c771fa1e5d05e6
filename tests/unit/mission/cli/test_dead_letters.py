from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from mission.audit.entry import Actor
from mission.audit.log import AuditLog
from mission.cli.console import Commands
from mission.cli.dead_letters import dead_letters
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.settings import Settings
from mission.store.changes import Admission, Release
from mission.store.ledger import Ledger
from mission.store.names import PREFIX, entry_key
from tests.claims import claim_these

WHY = ("--why", "the mirror is back")

main = Commands(commands=[dead_letters])


@pytest.fixture(autouse=True)
def _environment(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())


@pytest.fixture
def dead(ledger: Ledger, client: redis.Redis) -> list[str]:
    """Three dead missions: a read timeout an hour ago, one now, and a DNS failure now."""
    answers = ledger.admit([Admission(new_mission_id(), b"u", 1000) for _ in range(3)], "team-a")
    claims = claim_these(ledger, [answer.id for answer in answers], 3, 60).claims
    reasons = (Reason.READ_TIMEOUT, Reason.READ_TIMEOUT, Reason.DNS_FAILURE)
    ledger.release([Release(c.id, c.token, why, 0) for c, why in zip(claims, reasons, strict=True)], 1)
    ids = [answer.id for answer in answers]
    client.zincrby(PREFIX + "dead", -3_700_000, ids[0])
    return ids


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["dead-letters", *arguments])


def _rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def _states(ledger: Ledger, ids: list[str]) -> list[State | str]:
    return [ledger.status(mission_id).state for mission_id in ids]


def test_list_prints_a_json_object_a_line_with_the_history(dead: list[str]) -> None:
    rows = _rows(_run("list", "--json"))
    assert {row["id"] for row in rows} == set(dead)
    assert rows[0]["id"] == dead[0]
    assert list(rows[0]) == [
        "id",
        "reason",
        "attempts",
        "submitter",
        "allowed_by",
        "submitted_at",
        "died_at",
        "history",
    ]
    assert rows[0]["history"] == [{"at": rows[0]["died_at"], "reason": "read_timeout"}]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--reason", "read_timeout"], {0, 1}),
        (["--older-than", "1h"], {0}),
        (["--reason", "dns_failure", "--older-than", "1h"], set()),
    ],
)
def test_list_selects_by_reason_and_age(dead: list[str], arguments: list[str], wanted: set[int]) -> None:
    rows = _rows(_run("list", "--json", *arguments))
    assert {dead.index(row["id"]) for row in rows} == wanted


def test_a_letter_that_holds_nonsense_is_shown_with_the_others(dead: list[str], client: redis.Redis) -> None:
    nonsense = dict.fromkeys(("attempts", "reason", "submitted_at", "finished_at", "history"), b"\xff")
    client.hset(entry_key(dead[0]), mapping=nonsense)  # type: ignore[arg-type]  # redis-py's mapping is invariant
    client.set(entry_key(dead[1]), "no hash")
    assert [row["died_at"] for row in _rows(_run("list", "--json")) if row["id"] == dead[0]] == ["unreadable"]
    assert dead[2] in _run("list").stdout
    assert _run("show", dead[0]).exit_code == 0


def test_list_prints_a_table(dead: list[str]) -> None:
    header, *rows = _run("list").stdout.splitlines()
    assert header.split() == ["ID", "REASON", "ALLOWED_BY", "ATTEMPTS", "SUBMITTER", "DIED"]
    assert rows[0].split()[:4] == [dead[0], "read_timeout", "1", "team-a"]


def test_an_empty_list_is_no_failure() -> None:
    result = _run("list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no dead letters\n")
    assert _run("list", "--json").output == ""


def test_show_prints_a_letter_and_its_history(dead: list[str]) -> None:
    output = _run("show", dead[2]).stdout
    assert dead[2] in output
    assert output.splitlines()[-1].endswith("dns_failure")


def test_show_as_json_is_what_list_prints(dead: list[str]) -> None:
    listed = {row["id"]: row for row in _rows(_run("list", "--json"))}
    assert _rows(_run("show", dead[1], "--json")) == [listed[dead[1]]]


def test_show_of_another_mission_is_exit_code_1() -> None:
    result = _run("show", new_mission_id())
    assert result.exit_code == 1
    assert result.stderr.startswith("error: no mission")


def test_named_missions_are_replayed(dead: list[str], ledger: Ledger) -> None:
    result = _run("replay", dead[0], dead[2], *WHY, "--json")
    assert result.exit_code == 0
    assert _rows(result) == [{"id": dead[0], "replayed": True}, {"id": dead[2], "replayed": True}]
    assert _states(ledger, dead) == [State.RETRYING, State.DEAD, State.RETRYING]


def test_replaying_again_is_no_failure_and_says_so(dead: list[str]) -> None:
    _run("replay", dead[0], *WHY)
    result = _run("replay", dead[0], *WHY, "--json")
    assert (result.exit_code, _rows(result)) == (0, [{"id": dead[0], "replayed": False, "because": "retrying"}])


def test_of_each_that_is_not_replayed_it_says_why(dead: list[str], ledger: Ledger, client: redis.Redis) -> None:
    (answer,) = ledger.admit([Admission(new_mission_id(), b"u", 1000)], "team-a")
    client.hset(entry_key(answer.id), "state", "\x1b[2J")
    _run("discard", dead[1], *WHY)
    _run("replay", dead[0], *WHY)
    ids = [dead[0], dead[1], answer.id, dead[2]]
    result = _run("replay", *ids, *WHY)
    assert (result.exit_code, result.stdout) == (0, "1 of 4 replayed\n")
    assert [line for line in result.stderr.splitlines() if line.startswith("note")] == [
        f"note: {dead[0]} was not replayed: it is retrying, not dead",
        f"note: {dead[1]} was not replayed: it was discarded and its URL deleted; enqueue it again",
        f"note: {answer.id} was not replayed: it is unreadable, not dead",
    ]
    rows = _rows(_run("discard", *ids[:3], *WHY, "--json"))
    assert [row["because"] for row in rows] == ["retrying", "discarded", "unreadable"]


def test_where_nothing_is_selected_it_says_so(dead: list[str]) -> None:
    result = _run("replay", "--reason", "expired", *WHY)
    assert (result.exit_code, result.stdout) == (0, "0 of 0 replayed\n")
    assert result.stderr == "note: no dead letter matches\n"


@pytest.mark.parametrize(
    ("selection", "count"), [(["--older-than", "1h"], 1), (["--reason", "read_timeout"], 2), (["--all"], 3)]
)
def test_missions_are_replayed_by_age_by_reason_or_all(
    dead: list[str], ledger: Ledger, selection: list[str], count: int
) -> None:
    assert _run("replay", *selection, *WHY).stdout == f"{count} of {count} replayed\n"
    assert _states(ledger, dead) == [State.RETRYING] * count + [State.DEAD] * (3 - count)


def test_missions_are_discarded(dead: list[str], client: redis.Redis) -> None:
    assert _rows(_run("discard", dead[0], *WHY, "--json")) == [{"id": dead[0], "discarded": True}]
    assert [client.hexists(entry_key(mission_id), "url") for mission_id in dead] == [False, True, True]


def test_each_mission_is_on_record_and_in_the_log(dead: list[str], client: redis.Redis) -> None:
    result = _run("discard", "--reason", "read_timeout", *WHY)
    entries = AuditLog(client, Actor("", "", "")).entries()
    assert [(entry.mission_id, entry.outcome) for entry in entries] == [
        (dead[0], "started"),
        (dead[0], "discarded"),
        (dead[1], "started"),
        (dead[1], "discarded"),
    ]
    logged = [json.loads(line)["decoder.audit"]["hash"] for line in result.stderr.splitlines()]
    assert logged == [entry.hash for entry in entries]


@pytest.mark.parametrize("verb", ["replay", "discard"])
@pytest.mark.parametrize(
    "arguments",
    [[], ["--all", "--reason", "expired"], [new_mission_id(), "--all"], [new_mission_id(), "--reason", "expired"]],
)
def test_what_to_act_on_is_said_in_one_way_only(
    dead: list[str], ledger: Ledger, verb: str, arguments: list[str]
) -> None:
    result = _run(verb, *arguments, *WHY)
    assert result.exit_code == 2
    assert _states(ledger, dead) == [State.DEAD] * 3


@pytest.mark.parametrize("arguments", [["--all"], ["--all", "--why", " "], ["--reason", "bad_luck", *WHY]])
def test_a_bad_option_is_a_usage_error(dead: list[str], ledger: Ledger, arguments: list[str]) -> None:
    assert _run("replay", *arguments).exit_code == 2
    assert _states(ledger, dead) == [State.DEAD] * 3


def test_a_bad_id_among_others_stops_all(dead: list[str], ledger: Ledger) -> None:
    result = _run("replay", dead[0], "nonsense", *WHY)
    assert result.exit_code == 1
    assert ledger.status(dead[0]).state is State.DEAD


def test_an_unknown_mission_is_exit_code_1_and_the_others_are_replayed(dead: list[str], ledger: Ledger) -> None:
    stranger = new_mission_id()
    result = _run("replay", stranger, dead[0], *WHY, "--json")
    assert result.exit_code == 1
    assert _rows(result) == [
        {"id": stranger, "replayed": False, "because": "unknown"},
        {"id": dead[0], "replayed": True},
    ]
    assert f"error: no mission {stranger}" in result.stderr
