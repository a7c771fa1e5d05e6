"""The benchmarks still run, and their table says what was measured."""

from __future__ import annotations

import pytest

from benchmarks import observability
from benchmarks.measure import Sample
from benchmarks.report import Report
from benchmarks.site import SECRETS, document
from benchmarks.throughput import rounds
from worker.extract import Extractor


def sample(system: str, seconds: float, cpu: float | None = 0.5) -> Sample:
    return Sample(system, missions=100, seconds=seconds, enqueue_seconds=0.25, cpu_seconds=cpu)


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
    assert cells[1:3] == [["ours", "75", "50 to 100", "0.25", "5.00"], ["theirs", "31", "12 to 50", "0.25", "5.00"]]
    assert cells[4] == ["ours : theirs", "3.00", "2.00 to 4.00"]


def test_where_cpu_time_is_not_known_the_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.add(sample("ours", 1, cpu=None))
    report.show(as_json=False)
    assert capsys.readouterr().out.splitlines()[1].endswith("?")


def test_the_lines_for_machines_hold_every_round(report: Report) -> None:
    ours, _, pair = report.lines()
    assert (ours["system"], ours["missions"], ours["rates"]) == ("ours", 100, [100.0, 50.0])
    assert pair == {"system": "ours", "beside": "theirs", "ratios": [2.0, 4.0]}


def test_a_document_is_about_two_kilobytes_with_its_secrets() -> None:
    assert 1800 < len(document(7)) < 2300
    assert len(Extractor().extract(document(7))) == SECRETS


@pytest.mark.full
def test_all_four_systems_do_their_missions() -> None:
    samples = [one for _, one in rounds(missions=20, count=1, fsync="always", backlog=True, warm_up=20)]
    assert [one.system for one in samples] == ["decoder, enqueue_many", "decoder, enqueue", "Celery", "Dramatiq"]
    assert all(one.missions == 20 and one.enqueue_seconds > 0 and one.rate > 0 for one in samples)


@pytest.mark.full
def test_the_decoder_does_its_missions_watched_and_unwatched() -> None:
    samples = [one for _, one in observability.rounds(missions=20, count=1, warm_up=20)]
    assert [one.system for one in samples] == ["all on", "all off"]
    assert all(one.missions == 20 and one.rate > 0 for one in samples)
