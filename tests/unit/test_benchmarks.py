"""The benchmarks still run, and their tables show the measurements."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import click
import pytest
from click.testing import CliRunner

from benchmarks import (
    capacity,
    corpus,
    extraction,
    fairness,
    growth,
    large,
    latency,
    observability,
    producing,
    stored,
    telling,
    urgency,
    waiting,
)
from benchmarks.measure import Sample
from benchmarks.report import Report
from benchmarks.site import SECRETS, document
from benchmarks.throughput import rounds
from worker.extract import Extractor


def sample(system: str, seconds: float, cpu: float | None = 0.5) -> Sample:
    return Sample(system, missions=100, seconds=seconds, enqueue_seconds=0.25, cpu_seconds=cpu, peak_bytes=3 * 2**20)


@pytest.fixture
def report() -> Report:
    report = Report()
    for one in (sample("ours", 1), sample("theirs", 2), sample("theirs", 8), sample("ours", 2)):
        report.add(one)
    return report


def test_a_ratio_is_of_systems_in_the_same_round(report: Report) -> None:
    assert list(report.ratios()) == [("ours", "theirs", [2.0, 4.0])]


def test_the_table_has_a_row_for_each_system_and_each_pair(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    report.show(as_json=False)
    rows = [line.split("  ") for line in capsys.readouterr().out.splitlines() if line]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[1:3] == [
        ["ours", "75", "50 to 100", "0.25", "5.00", "3"],
        ["theirs", "31", "12 to 50", "0.25", "5.00", "3"],
    ]
    assert cells[4] == ["ours : theirs", "3.00", "2.00 to 4.00"]


def test_where_cpu_time_is_not_known_the_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.add(sample("ours", 1, cpu=None))
    report.show(as_json=False)
    assert capsys.readouterr().out.splitlines()[1].split()[-2] == "?"


def test_the_lines_for_machines_hold_every_round(report: Report) -> None:
    ours, _, pair = report.lines()
    assert (ours["system"], ours["missions"], ours["rates"]) == ("ours", 100, [100.0, 50.0])
    assert pair == {"system": "ours", "beside": "theirs", "ratios": [2.0, 4.0]}


def test_what_comes_later_is_set_beside_ours_alone() -> None:
    report = Report(ours=2)
    for name in ("one", "two", "peer", "limit"):
        report.add(sample(name, 1))
    pairs = [(one, other) for one, other, _ in report.ratios()]
    assert pairs == [("one", "two"), ("one", "peer"), ("one", "limit"), ("two", "peer"), ("two", "limit")]


def test_a_folder_gets_the_figures_and_a_plot_of_them(report: Report, tmp_path: Path) -> None:
    report.write(tmp_path / "new", machine="this one")
    written = json.loads((tmp_path / "new" / "throughput.json").read_text())
    assert (written["machine"], written["results"]) == ("this one", list(report.lines()))
    plot = ElementTree.parse(tmp_path / "new" / "throughput.svg")
    texts = [text.text for text in plot.iter("{http://www.w3.org/2000/svg}text")]
    assert {"ours", "theirs", "75", "31"} <= set(texts)


def test_a_document_is_about_two_kilobytes_with_its_secrets() -> None:
    assert 1800 < len(document(7)) < 2300
    assert len(Extractor().search(document(7))) == SECRETS


@pytest.mark.full
def test_all_seven_systems_do_their_missions() -> None:
    samples = [one for _, one in rounds(missions=20, count=1, fsync="always", backlog=True, warm_up=20)]
    assert [one.system for one in samples] == [
        "decoder, enqueue_many",
        "decoder, enqueue",
        "Dramatiq, session",
        "Dramatiq",
        "Celery, session",
        "Celery",
        "bare loop",
    ]
    assert all(one.missions == 20 and one.enqueue_seconds > 0 and one.rate > 0 for one in samples)


@pytest.mark.full
def test_the_decoder_does_its_missions_watched_and_unwatched() -> None:
    samples = [one for _, one in observability.rounds(missions=20, count=1, warm_up=20)]
    assert [one.system for one in samples] == ["all on", "all off"]
    assert all(one.missions == 20 and one.rate > 0 for one in samples)


def lines(main: click.Command, *arguments: str) -> list[dict[str, Any]]:
    """The JSON output of a benchmark."""
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.full
@pytest.mark.parametrize("setup", capacity.PREDICTED, ids=lambda setup: setup.name)
def test_a_configuration_of_the_capacity_model_is_measured(setup: capacity.Setup) -> None:
    before = os.sched_getaffinity(0)
    found = capacity.work(setup, 0.2)
    assert found.rate > 0
    assert all(figure > 0 for figure in dataclasses.astuple(found.cost))
    assert os.sched_getaffinity(0) == before


@pytest.mark.full
def test_what_is_stored_for_the_capacity_model_is_weighed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "STORED", 1000)
    found = stored.in_redis()
    assert 100 < found.finished < found.dead < found.queued
    assert found.record > 1000
    assert 50 < found.secret < 150
    assert found.audit_entry > 300
    assert 50 < found.outcome < 250


@pytest.mark.full
def test_waiting_tells_of_each_concurrency() -> None:
    (found,) = lines(waiting.main, "--concurrency", "4", "--latency", "0.02")
    assert found["concurrency"] == 4
    assert 0 < found["of_most"] <= 1.01
    assert found["peak_mib"] > 10


@pytest.mark.full
def test_latency_tells_of_the_whole_way_and_of_the_call() -> None:
    (found,) = lines(latency.main, "--missions", "100")
    assert 0 < found["call_p50_ms"] < found["p50_ms"] <= found["p99_ms"]
    assert found["call_cpu_ms"] > 0


@pytest.mark.full
def test_producing_sets_one_beside_the_other() -> None:
    (found,) = lines(producing.main, "--missions", "600")
    rates = {
        "enqueue_many_per_second",
        "apply_async_per_second",
        "ratio",
        "long_iterable_per_second",
        "enqueue_call_cpu_ms",
    }
    assert set(found) == rates | {"mib_more_after_it"}
    assert all(found[rate] > 0 for rate in rates)


@pytest.mark.full
def test_growth_tells_of_bytes_backlogs_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "BACKLOGS", (50, 200))
    monkeypatch.setattr(growth, "TIMED", 100)
    monkeypatch.setattr(growth, "STORED", 600)
    waits, ended, short, long, *workers = lines(growth.main, "--most", "200", "--worked", "200")
    assert min(waits["bytes"], ended["bytes"]) > 100
    assert (short["what"], long["what"]) == ("a backlog of 50", "a backlog of 200")
    for backlog in (short, long):
        assert min(backlog["missions_per_second"], backlog["cpu_ms"], backlog["stats_ms"]) > 0
    assert [one["what"] for one in workers] == ["a worker process after 20", "a worker process after 200"]
    assert all(one["peak_mib"] > 10 for one in workers)


@pytest.mark.full
def test_large_documents_are_decoded_by_both_sides() -> None:
    samples = [one for _, one in large.rounds(missions=4, count=1)]
    assert [one.system for one in samples] == ["decoder, enqueue_many", "bare loop"]
    assert all((one.peak_bytes or 0) > large.BYTES for one in samples)


@pytest.mark.parametrize("neighbour", [None, "127.0.0.1:9"])
def test_fairness_counts_the_good_hosts_missions_and_each_once(
    monkeypatch: pytest.MonkeyPatch, neighbour: str | None
) -> None:
    def two_seconds(_system: object, urls: list[str], *, expected: int | None = None, **_: object) -> Sample:
        return Sample("", len(urls) if expected is None else expected, 2.0, 0.0, None)

    monkeypatch.setattr(fairness, "measure", two_seconds)
    assert fairness._rate(cast("fairness.Beside", None), ["http://good.example/"] * 40, neighbour) == 20


@pytest.mark.full
def test_fairness_tells_of_each_neighbour() -> None:
    found = lines(fairness.main, "--missions", "40", "--rounds", "1", "--latency", "0.01")
    assert [one["good_host"] for one in found] == [fairness.ALONE, fairness.SLOW, fairness.DEAD]
    assert all(one["rates"][0] > 0 for one in found)


@pytest.mark.full
def test_urgency_tells_of_each_who_should_not_wait_and_of_the_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urgency, "FEW", 10)
    monkeypatch.setattr(urgency, "SHARED", 120)
    (found,) = lines(urgency.main, "--backlog", "300", "--missions", "4", "--latency", "0.01")
    assert all(value > 0 for value in found.values())
    assert sum(found[f"share_{priority}_of_13"] for priority in ("high", "normal", "low")) == pytest.approx(13)


@pytest.mark.full
def test_telling_tells_of_each_who_hears_of_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "PER_SECOND", 1000)
    read, nobody, *heard = lines(telling.main, "--outcomes", "100", "--waiters", "100")
    assert min(read.values()) > 0
    assert set(nobody) == {"who", "redis_us_an_end"}
    assert len(heard) == 5
    assert all(0 < one["p50_ms"] <= one["p99_ms"] for one in heard)


@pytest.mark.full
def test_extraction_finds_what_was_planted_and_tells_what_each_contender_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "RATE", 16 * 1024)  # many credentials in little text
    monkeypatch.setattr(
        extraction, "SMALL_REPEATS", 300
    )  # many pairs of each text, so that an interrupted one does not shift the median
    monkeypatch.setattr(extraction, "GROWTH_MB", (1,))
    found = lines(extraction.main, "--mb", "2", "--rounds", "1")
    speeds, (median, *_), (provider, everything), (growth,), small = (
        [row for row in found if head in row]
        for head in ("mb_per_cpu_second", "times_detect_secrets", "64_kib", "document_mb", "2_kb")
    )
    shares = {row["mb_per_cpu_second"]: row["found"] for row in speeds}
    assert shares["everything"] == shares[extraction.EVERYTHING] == 1
    assert 0.5 < shares["engine alone"] == shares["provider"] < 1
    assert median["all"] > 5
    assert 0 < provider["p50_ms"] <= provider["p99_ms"]
    assert min(everything["p50_ms"], growth["cpu_ms_per_mb"], *(row["us_more"] for row in small)) > 0
