"""`decoder capacity`: its output for people and for machines, and the options that it refuses."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner, Result

from mission.cli.console import Commands
from worker.commands.capacity import capacity

main = Commands(commands=[capacity])


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("DECODER_")]:
        monkeypatch.delenv(name)


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["capacity", *args])


def found(*args: str) -> dict[str, object]:
    result = run(*args, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    (line,) = result.stdout.splitlines()
    record: dict[str, object] = json.loads(line)
    return record


def test_numbers_durations_and_sizes_are_read_as_people_write_them() -> None:
    record = found("--missions-per-day", "86.4M", "--latency", "1.5s", "--redis-memory", "1GiB", "--peak", "2")
    assert (record["missions_per_second"], record["missions_per_second_peak"]) == (1000, 2000)
    assert (
        found("--missions-per-day", "86400k", "--latency", "1500ms", "--redis-memory", "1024MiB", "--peak", "2")
        == record
    )


def test_people_get_every_figure_with_why_and_what_to_do() -> None:
    lines = run("--missions-per-day", "1G").stdout.splitlines()
    assert lines[1].startswith("missions/s")
    assert "11,574, at the peak 34,722" in lines[1]
    told = "\n".join(lines)
    assert "First bottleneck: Redis' memory" in told
    assert "releases side by side" in told
    assert "DECODER_QUEUE_LIMIT" in told


def test_where_nothing_breaks_it_says_what_would() -> None:
    told = run("--missions-per-day", "10k").stdout
    assert "No bottleneck. The first would be Redis' memory" in told
    assert found("--missions-per-day", "10k")["releases"] == 1


def test_machines_get_the_limits_too() -> None:
    record = found("--missions-per-day", "1G")
    limits = record["limits"]
    assert isinstance(limits, dict)
    assert set(limits) == {"Redis' one thread", "Redis' memory", "Redis' network", "the network to the sites"}
    assert record["breaks_first"] in limits


@pytest.mark.parametrize(
    ("option", "variable"),
    [
        (("--concurrency", "64"), {"DECODER_CONCURRENCY": "64"}),
        (("--ledger-ttl", "1d"), {"DECODER_LEDGER_TTL": "1d"}),
        (("--result-ttl", "6h"), {"DECODER_RESULT_TTL": "6h"}),
    ],
)
def test_an_option_does_what_its_variable_does(
    option: tuple[str, ...], variable: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, by_option = found("--missions-per-day", "1G"), found("--missions-per-day", "1G", *option)
    for name, value in variable.items():
        monkeypatch.setenv(name, value)
    assert found("--missions-per-day", "1G") == by_option != plain


def test_single_enqueues_cost_more_than_bulk() -> None:
    single, bulk = found("--missions-per-day", "1G"), found("--missions-per-day", "1G", "--bulk")
    assert single["redis_thread_peak"] > bulk["redis_thread_peak"]  # type: ignore[operator]  # floats


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "Missing option '--missions-per-day'"),
        (("--missions-per-day", "lots"), "'lots' is not a valid number; use one like 250k, 50M or 1G"),
        (("--missions-per-day", "0"), "'0' is not a valid number; use one like 250k, 50M or 1G"),
        (("--missions-per-day", "9" * 30), "is not a valid number"),
        (("--missions-per-day", "1M", "--latency", "0s"), "'0s' is not a duration"),
        (("--missions-per-day", "1M", "--latency", "nan"), "'nan' is not a duration"),
        (
            ("--missions-per-day", "1M", "--redis-memory", "big"),
            "'big' is not a valid size; use one like 512MiB or 64GiB",
        ),
        (("--missions-per-day", "1M", "--document-kb", "-1"), "-1.0 is not in the range"),
        (("--missions-per-day", "1M", "--share-with-secrets", "2"), "2.0 is not in the range"),
        (("--missions-per-day", "1M", "--ledger-ttl", "9000d"), "DECODER_LEDGER_TTL: got"),
    ],
)
def test_what_it_cannot_take_is_one_line_and_exit_code_2(args: tuple[str, ...], why: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ")
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
