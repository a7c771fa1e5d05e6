"""The `mission` command on a real ledger: its output for people and for scripts, and its exit codes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner, Result

from mission.cli.advice import ADVICE
from mission.ids import new_mission_id
from mission.model import Reason, State
from mission.seal.url_keys import generate_url_key
from mission.store.changes import Commit, Release
from mission.store.ledger import Ledger
from mission.store.names import entry_key
from producer.cli import main
from tests.claims import claim_these
from tests.conftest import wait_for
from worker.settings import WorkerSettings

pytestmark = pytest.mark.server("kombu's own connections")

URL = "https://docs.example/page"
ID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


@pytest.fixture(autouse=True)
def _environment(settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("DECODER_URL_KEY", generate_url_key())


def run(*arguments: str, stdin: str | bytes = "") -> Result:
    return CliRunner().invoke(main, arguments, input=stdin)


def json_lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@contextmanager
def finishing(ledger: Ledger, state: State, **fields: object) -> Iterator[None]:
    """Finish every new mission, as a worker would."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(0.01):
            found = [key.decode() for key in ledger.client.zrange("{decoder}:queued", 0, -1)]  # type: ignore[union-attr]  # the synchronous client's answer
            claims = claim_these(ledger, found, 100, 60).claims if found else []
            if claims:
                ledger.commit([Commit(claim.id, claim.token, state, **fields) for claim in claims], 60)  # type: ignore[arg-type]  # the test's own

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_enqueue_prints_id_and_state() -> None:
    result = run("enqueue", URL)
    assert (result.exit_code, result.stderr) == (0, "")
    assert re.fullmatch(rf"{ID}  queued\n", result.stdout)


def test_enqueue_prints_a_ticket_as_json(ledger: Ledger) -> None:
    (ticket,) = json_lines(run("enqueue", URL, "--json"))
    assert ticket == {"id": ticket["id"], "state": "queued", "duplicate": False, "priority": "normal"}
    assert ledger.status(str(ticket["id"])).state is State.QUEUED


def test_enqueue_with_a_key_that_was_used_says_so() -> None:
    first = run("enqueue", URL, "--idempotency-key", "order-7")
    again = run("enqueue", URL, "--idempotency-key", "order-7")
    assert again.exit_code == 0
    assert again.stdout == first.stdout.rstrip("\n") + "  (enqueued before)\n"


def test_a_priority_is_told_where_it_is_not_the_usual_one(ledger: Ledger) -> None:
    first = run("enqueue", URL, "--idempotency-key", "order-7", "--priority", "high")
    mission_id = first.stdout.split()[0]
    again = run("enqueue", URL, "--idempotency-key", "order-7")
    assert again.stdout == f"{mission_id}  queued  (enqueued before, high priority)\n"
    (usual,) = admitted(URL)
    header, row, other = run("status", mission_id, usual).stdout.splitlines()
    assert header.split()[:3] == ["ID", "STATE", "PRIORITY"]
    assert (row.split()[:3], other.split()[:3]) == ([mission_id, "queued", "high"], [usual, "queued", "0"])
    assert "PRIORITY" not in run("status", usual).stdout
    (urgent,) = json_lines(run("enqueue", URL, URL, "--priority", "low", "--json"))[:1]
    assert urgent["priority"] == "low"
    (found,) = json_lines(run("stats", "--json"))
    assert (found["queued_high"], found["queued_normal"], found["queued_low"]) == (1, 1, 2)
    assert [claim.priority for claim in ledger.claim(9, 60).claims] == ["high", "normal", "low", "low"]


def test_a_priority_that_is_none_is_refused_in_a_line() -> None:
    result = run("enqueue", URL, "--priority", "urgent")
    assert result.exit_code == 2
    assert "'high', 'normal', 'low'" in result.stderr


def test_many_under_one_key_may_be_enqueued_again() -> None:
    first = run("enqueue", URL, URL + "?more", "--idempotency-key", "night-7")
    again = run("enqueue", URL + "?new", URL, URL + "?more", "--idempotency-key", "night-7")
    assert (first.exit_code, again.exit_code) == (0, 0)
    known = [line + "  (enqueued before)" for line in first.stdout.splitlines()]
    assert again.stdout.splitlines()[1:] == known
    assert "before" not in again.stdout.splitlines()[0]


def test_enqueue_with_an_exclusive_key_of_another_url_is_refused() -> None:
    run("enqueue", URL, "--idempotency-key", "order-7", "--exclusive")
    result = run("enqueue", URL + "?more", "--idempotency-key", "order-7", "--exclusive")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "error: idempotency_conflict: this idempotency key is bound to another URL\n"
    assert run("enqueue", URL, "--exclusive").exit_code == 2


def test_one_url_with_a_key_is_the_same_mission_alone_and_among_others() -> None:
    alone = run("enqueue", URL, "--idempotency-key", "order-7").stdout.split()[0]
    assert run("enqueue", URL, URL + "?more", "--idempotency-key", "order-7").stdout.split()[0] == alone


def test_enqueue_takes_submitter_and_lifetime(client: redis.Redis) -> None:
    (ticket,) = json_lines(run("enqueue", URL, "--submitter", "nightly", "--expires", "90s", "--json"))
    found = client.hmget(entry_key(str(ticket["id"])), "submitter", "submitted_at", "expires_at")
    submitter, submitted, expires = (item.decode() for item in found if isinstance(item, bytes))
    assert (submitter, int(expires) - int(submitted)) == ("nightly", 90_000)


@pytest.mark.parametrize("source", ["urls", "-"])
def test_enqueue_takes_urls_and_a_file_of_them_without_empty_lines_and_comments(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = f"{URL}\r\n\n# of last week\n  {URL}?2\n   # and\n{URL}?3"
    Path("urls").write_text(lines)
    result = run("enqueue", URL, URL, "--from-file", source, "--json", stdin=lines)
    assert len({ticket["id"] for ticket in json_lines(result)}) == 5
    assert len({ticket["batch"] for ticket in json_lines(result)}) == 1
    assert result.stderr == ""
    assert ledger.stats().queued == 5


def test_enqueue_takes_what_is_no_utf8_for_a_bad_url() -> None:
    result = run("enqueue", "--from-file", "-", stdin=b"https://docs.example/\xff\n" + URL.encode())
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr.startswith("error: line 1: invalid_url")


def test_what_is_bad_in_a_file_is_told_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "urls").write_text(f"# these\n\n{URL}\nno url\n")
    result = run("enqueue", "--from-file", str(tmp_path / "urls"), "--json")
    assert f"error: {tmp_path}/urls:4: invalid_url" in result.stderr


def test_many_are_told_in_numbers_where_somebody_looks_with_a_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "urls").write_text("# 300 and a bad one\n" + "".join(f"{URL}?{n}\n" for n in range(300)) + "bad\n")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True)
    result = run("enqueue", "--from-file", str(tmp_path / "urls"), URL)
    assert "301 missions enqueued, 0 enqueued before, 1 refused" in result.stdout
    assert not re.search(rf"^{ID}", result.stdout, re.MULTILINE)
    assert "302/302" in result.stderr
    (batch,) = set(re.findall(rf"mission status --batch ({ID})", result.stderr))
    assert "301" in run("status", "--batch", batch).stdout


def test_many_through_a_pipe_are_told_in_numbers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True)
    result = run("enqueue", "--from-file", "-", stdin="".join(f"{URL}?{n}\n" for n in range(30)))
    assert "30 missions enqueued, 0 enqueued before, 0 refused" in result.stdout
    assert not re.search(rf"^{ID}", result.stdout, re.MULTILINE)


def test_a_variable_that_is_misspelt_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_QUOTTA", "1/hour")
    assert run("enqueue", URL).stderr == "note: DECODER_QUOTTA is not a setting: did you mean DECODER_QUOTA?\n"


def test_of_many_the_bad_ones_are_told_by_number_and_the_rest_is_enqueued(ledger: Ledger) -> None:
    result = run("enqueue", URL, "ftp://docs.example/", URL, "no url", "--json")
    assert result.exit_code == 1
    assert len(json_lines(result)) == 2
    assert re.findall(r"^error: URL (\d+): (\w+)", result.stderr, re.MULTILINE) == [
        ("2", "scheme_not_allowed"),
        ("4", "invalid_url"),
    ]
    assert ledger.stats().queued == 2


def test_somebody_who_looks_sees_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True)
    result = run("enqueue", URL, URL)
    assert "2/2" in result.stderr


def test_a_line_and_the_progress_bar_do_not_run_into_each_other(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True)
    with finishing(ledger, State.SUCCEEDED, secrets=3, record=b"sealed"):
        terminal = run("enqueue", URL, "bad", URL, "--wait").output
    told = [line for line in terminal.split("\n") if re.search(rf"{ID}|error:", line) and "note:" not in line]
    assert len(told) == 5
    for line in told:
        assert re.fullmatch(rf"({ID}  \w+(  3 secrets)?|error: URL 2: .*)", line.rpartition("\r")[2]), line


def test_waiting_ends_well_when_every_mission_succeeded(ledger: Ledger) -> None:
    with finishing(ledger, State.SUCCEEDED, secrets=3, record=b"sealed"):
        result = run("enqueue", URL, "--wait")
    assert result.exit_code == 0
    assert re.fullmatch(rf"({ID})  queued\n\1  succeeded  3 secrets\n", result.stdout)


def test_waiting_ends_badly_when_one_mission_did_not_succeed(ledger: Ledger) -> None:
    with finishing(ledger, State.FAILED, reason=Reason.HTTP_CLIENT_ERROR):
        result = run("enqueue", URL, "--wait")
    assert result.exit_code == 1
    assert re.fullmatch(rf"({ID})  queued\n\1  failed  http_client_error\n", result.stdout)
    assert result.stderr == "note: http_client_error: the host refused: check the URL, and whether it has expired\n"


def test_waiting_prints_each_ticket_and_each_end_as_json(ledger: Ledger) -> None:
    with finishing(ledger, State.SUCCEEDED, secrets=0, record=b"sealed"):
        result = run("enqueue", URL, URL, "--wait", "--json")
    assert result.exit_code == 0
    assert [line["state"] for line in json_lines(result)] == ["queued", "queued", "succeeded", "succeeded"]


def test_status_is_a_table_for_people() -> None:
    ids = [str(ticket["id"]) for ticket in json_lines(run("enqueue", URL, URL, "--json"))]
    header, *rows = run("status", *ids).stdout.splitlines()
    assert header.split() == ["ID", "STATE", "ATTEMPTS", "SECRETS", "REASON", "SUBMITTED", "FINISHED"]
    assert [row.split()[:3] for row in rows] == [[mission_id, "queued", "0"] for mission_id in ids]


def test_status_is_json_for_scripts(ledger: Ledger) -> None:
    (ticket,) = json_lines(run("enqueue", URL, "--json"))
    claim = claim_these(ledger, [str(ticket["id"])], 1, 60).claims[0]
    ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 2, b"sealed")], 60)
    (status,) = json_lines(run("status", claim.id, "--json"))
    assert list(status) == [
        "id",
        "state",
        "attempts",
        "secrets",
        "reason",
        "submitted_at",
        "finished_at",
        "cut",
        "put_off",
        "next_try_at",
        "priority",
        "complete",
    ]
    assert (status["state"], status["attempts"], status["secrets"], status["reason"]) == ("succeeded", 1, 2, None)


def test_status_of_one_that_is_unknown_keeps_no_other_from_being_shown() -> None:
    (ticket,) = json_lines(run("enqueue", URL, "--json"))
    unknown = new_mission_id()
    assert run("status", unknown).stdout == ""
    result = run("status", unknown, "no id", str(ticket["id"]), "--json")
    assert result.exit_code == 1
    assert [status["id"] for status in json_lines(result)] == [ticket["id"]]
    first, second = result.stderr.splitlines()
    assert first.startswith(f"error: no mission {unknown} in the ledger")
    assert second.startswith("error: malformed_message: a mission id is a UUID")


def test_what_a_newer_release_stored_is_shown_as_it_is(client: redis.Redis) -> None:
    (ticket,) = json_lines(run("enqueue", URL, "--idempotency-key", "once", "--json"))
    entry = {"state": "archived", "reason": "by_hand", "finished_at": "1700000000000"}
    client.hset(entry_key(str(ticket["id"])), mapping=entry)  # type: ignore[arg-type]  # redis-py's mapping is invariant
    shown = run("status", str(ticket["id"]))
    waited = run("enqueue", URL, "--idempotency-key", "once", "--wait")
    assert (shown.exit_code, waited.exit_code) == (0, 1)
    assert "archived" in shown.stdout
    assert waited.stdout.endswith(f"{ticket['id']}  archived  by_hand\n")


def test_stats_count_each_state() -> None:
    run("enqueue", URL, URL)
    (found,) = json_lines(run("stats", "--json"))
    assert list(found) == [
        "queued",
        "running",
        "retrying",
        "succeeded",
        "failed",
        "dead",
        "cancelled",
        "oldest_seconds",
        "queued_high",
        "queued_normal",
        "queued_low",
    ]
    assert (found["queued"], found["running"]) == (2, 0)
    header, row = run("stats").stdout.splitlines()
    assert dict(zip(header.split(), row.split(), strict=True))["QUEUED"] == "2"


def admitted(*urls: str) -> list[str]:
    return [str(ticket["id"]) for ticket in json_lines(run("enqueue", *urls, "--json"))]


def test_wait_tells_how_each_of_several_missions_ended(ledger: Ledger) -> None:
    ids = admitted(URL, URL + "?2")
    with finishing(ledger, State.SUCCEEDED, secrets=1, record=b"sealed"):
        result = run("wait", *ids)
    assert result.exit_code == 0
    assert sorted(result.stdout.splitlines()) == sorted(f"{mission_id}  succeeded  1 secret" for mission_id in ids)


def test_wait_says_that_the_time_ran_out_and_ends_badly() -> None:
    ids = admitted(URL, URL + "?2")
    result = run("wait", *ids, "--timeout", "10ms")
    assert result.exit_code == 1
    assert sorted(result.stdout.splitlines()) == sorted(f"{mission_id}  queued" for mission_id in ids)
    assert result.stderr.startswith("note: the time ran out: 2 of 2 not finished after 0.01s; they go on")


def test_wait_takes_a_batch_or_missions_and_not_both(ledger: Ledger) -> None:
    tickets = json_lines(run("enqueue", URL, URL + "?2", "--json"))
    batch = str(tickets[0]["batch"])
    with finishing(ledger, State.FAILED, reason=Reason.TLS_FAILURE):
        result = run("wait", "--batch", batch, "--json")
    assert result.exit_code == 1
    assert {line["id"] for line in json_lines(result)} == {ticket["id"] for ticket in tickets}
    for command in ("wait", "status"):
        assert run(command).exit_code == run(command, batch, "--batch", batch).exit_code == 2
        unknown = run(command, "--batch", new_mission_id())
        assert (unknown.exit_code, unknown.stderr.partition(" ")[2][:8]) == (1, "no batch")


def test_a_batch_is_counted_by_state_and_reason(ledger: Ledger) -> None:
    tickets = json_lines(run("enqueue", URL, URL + "?2", URL + "?3", "--json"))
    (claim,) = claim_these(ledger, [str(tickets[0]["id"])], 1, 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.FAILED, Reason.TLS_FAILURE)], 60)
    batch = str(tickets[0]["batch"])
    assert [line.split() for line in run("status", "--batch", batch).stdout.splitlines()] == [
        ["STATE", "REASON", "MISSIONS"],
        ["queued", "2"],
        ["failed", "tls_failure", "1"],
    ]
    (found,) = json_lines(run("status", "--batch", batch, "--json"))
    assert found == {"batch": batch, "missions": 3, "states": {"failed": 1, "queued": 2}}


def test_status_tells_the_last_failure_why_it_was_put_off_and_when_it_is_tried_again(ledger: Ledger) -> None:
    (mission_id,) = admitted(URL)
    (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
    ledger.release([Release(mission_id, claim.token, Reason.CONNECT_TIMEOUT, 0.0, host="h")], 5)
    wait_for(lambda: mission_id in ledger.take_due(10)[0])
    (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
    ledger.release([Release(mission_id, claim.token, Reason.HOST_BUSY, 30.0, uses_attempt=False, host="h")], 5)
    (status,) = json_lines(run("status", mission_id, "--json"))
    assert (status["state"], status["reason"], status["put_off"]) == ("retrying", "connect_timeout", "host_busy")
    seconds = datetime.fromisoformat(str(status["next_try_at"])) - datetime.now(UTC)
    assert 20 < seconds.total_seconds() <= 30
    shown = run("status", mission_id)
    assert shown.stdout.split()[:7] == ["ID", "STATE", "ATTEMPTS", "SECRETS", "REASON", "PUT_OFF", "NEXT_TRY"]
    assert shown.stderr == f"note: host_busy: {ADVICE[Reason.HOST_BUSY]}\n"


def test_list_shows_the_newest_missions_and_says_that_there_may_be_more() -> None:
    ids = admitted(URL, URL + "?2", URL + "?3")
    header, *rows = run("list").stdout.splitlines()
    assert header.split() == ["ID", "STATE", "SUBMITTER", "SUBMITTED"]
    assert {row.split()[0] for row in rows} == set(ids)
    few = run("list", "--limit", "1", "--submitter", "default", "--newer-than", "1h")
    assert (len(few.stdout.splitlines()), few.stderr) == (2, "note: shows the newest 1; use --limit for more\n")
    assert run("list", "--older-than", "1h").stderr == "no such missions\n"
    assert [line["id"] for line in json_lines(run("list", "--state", "failed", "--json"))] == []


def test_list_tells_a_batch_whatever_its_states(ledger: Ledger) -> None:
    tickets = json_lines(run("enqueue", URL, URL + "?2", "--json"))
    admitted(URL + "?3")
    (claim,) = claim_these(ledger, [str(tickets[0]["id"])], 1, 60).claims
    ledger.commit([Commit(claim.id, claim.token, State.FAILED, Reason.TLS_FAILURE)], 60)
    found = json_lines(run("list", "--batch", str(tickets[0]["batch"]), "--json"))
    assert {(line["id"], line["state"]) for line in found} == {
        (tickets[0]["id"], "failed"),
        (tickets[1]["id"], "queued"),
    }


def test_cancel_ends_what_waits_and_says_what_it_could_not_end(ledger: Ledger) -> None:
    waits, runs = admitted(URL, URL + "?2")
    claim_these(ledger, [runs], 1, 60)
    unknown = new_mission_id()
    result = run("cancel", waits, runs, unknown, "--reason", "a test")
    assert (result.exit_code, result.stdout) == (1, f"{waits}  cancelled\n")
    assert f"error: {runs} is running: only a mission that is queued or retrying can be cancelled" in result.stderr
    assert f"error: no mission {unknown}" in result.stderr
    assert json_lines(run("cancel", waits, "--reason", "a test", "--json")) == [
        {"id": waits, "state": "cancelled", "cancelled": True}
    ]
    assert run("cancel", waits).exit_code == 2, "the audit wants a reason"
    assert run("wait", waits).stdout == f"{waits}  cancelled  cancelled\n"
