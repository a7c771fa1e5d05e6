"""`decoder capacity`: the resources that a daily number of missions needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click
from pydantic import ByteSize, TypeAdapter

from mission.cli.console import DurationType, emit_json, emit_table, json_option, say
from mission.cli.help import Command
from mission.units import format_duration, parse_count
from worker.capacity import GIB, PLANNED_SHARE, Load, Plan, plan
from worker.settings import WorkerSettings

_MOST = 1e15


class _Amount(click.ParamType[float]):
    """A number in the form in which people write it.

    Args:
        name: its name in error messages.
        read: parses the text, or raises ValueError.
        like: examples for the error message.
        least: the smallest allowed value.
    """

    def __init__(self, name: str, read: Callable[[str], float], like: str, least: float = 1.0) -> None:
        self.name, self._read, self._like, self._least = name, read, like, least

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the number; an invalid one is a usage error."""
        try:
            amount = float(self._read(str(value)))
        except ValueError:
            amount = -1.0
        if not self._least <= amount <= _MOST:
            self.fail(f"{value!r} is not a valid {self.name}; use one like {self._like}", param, ctx)
        return amount


_MISSIONS = _Amount("number", parse_count, "250k, 50M or 1G")
_READS = _Amount("number", parse_count, "0, 500 or 2k", 0.0)
_SIZE = _Amount("size", TypeAdapter(ByteSize).validate_python, "512MiB or 64GiB")
_SHARE = click.FloatRange(0, 1)


@click.command(
    cls=Command,
    settings=WorkerSettings,
    reads=("concurrency", "ledger_ttl", "result_ttl", "audit_ttl", "queue_limit", "stored_quota"),
)
@click.option("--missions-per-day", type=_MISSIONS, required=True, help="Like 250k, 50M or 1G.")
@click.option(
    "--document-kb", type=click.FloatRange(0, 1e6), default=40.0, show_default=True, help="Mean document size in KB."
)
@click.option(
    "--latency",
    type=DurationType(),
    default="200ms",
    show_default=True,
    help="Mean time from the start of a fetch to the document's last byte.",
)
@click.option(
    "--peak",
    type=click.FloatRange(1, 24),
    default=3.0,
    show_default=True,
    help="Load of the busiest hour divided by the mean.",
)
@click.option(
    "--share-with-secrets", type=_SHARE, default=0.1, show_default=True, help="Share of documents that hold secrets."
)
@click.option(
    "--secrets-per-document",
    type=click.FloatRange(1, 10_000),
    default=3.0,
    show_default=True,
    help="Mean number of secrets in such a document.",
)
@click.option(
    "--share-dead", type=_SHARE, default=0.01, show_default=True, help="Share of missions that become dead letters."
)
@click.option(
    "--reads-per-day", type=_READS, default="1k", show_default=True, help="Reads of results; each adds an audit entry."
)
@click.option("--bulk", is_flag=True, help="Producers use `enqueue_many` instead of single calls.")
@click.option("--concurrency", type=click.IntRange(1, 1024), help="Concurrent fetches.  [default: DECODER_CONCURRENCY]")
@click.option(
    "--ledger-ttl", type=DurationType(), help="Retention of finished missions, like 2d.  [default: DECODER_LEDGER_TTL]"
)
@click.option("--result-ttl", type=DurationType(), help="Retention of results, like 1d.  [default: DECODER_RESULT_TTL]")
@click.option(
    "--redis-memory",
    type=_SIZE,
    default="64GiB",
    show_default=True,
    help="Data memory of the largest Redis that you would run.",
)
@click.option(
    "--network-mbit",
    type=click.FloatRange(1, 1e6),
    default=10_000.0,
    show_default=True,
    help="Mbit/s of Redis' link, and of the workers' link to the sites.",
)
@json_option
def capacity(
    latency: float,
    secrets_per_document: float,
    bulk: bool,
    concurrency: int | None,
    ledger_ttl: float | None,
    result_ttl: float | None,
    redis_memory: float,
    as_json: bool,
    **load: Any,
) -> None:
    """Estimate the workers and the Redis that a daily load needs.

    The estimate uses measured costs; docs/SCALING.md describes how they were measured and how well they predict. Plan with
    them, then measure your own. Each mission counts as one fetch: if servers cause retries, increase the number of missions.

    \b
    Example:
      decoder capacity --missions-per-day 50M --document-kb 40 --latency 200ms
      decoder capacity --missions-per-day 1G --bulk --ledger-ttl 1d --result-ttl 1d
    """
    own = {"concurrency": concurrency, "ledger_ttl": ledger_ttl, "result_ttl": result_ttl}
    settings = WorkerSettings.from_env(**{name: value for name, value in own.items() if value is not None})
    asked = Load(
        latency_seconds=latency,
        secrets_per_document=secrets_per_document,
        alone=not bulk,
        redis_memory_bytes=redis_memory,
        **load,
    )
    found = plan(asked, settings)
    if as_json:
        emit_json(_record(found))
        return
    emit_table(("", "", "WHY"), _rows(asked, settings, found))
    say("", *_breaks(found), *found.advice)


def _record(found: Plan) -> dict[str, Any]:
    limits = {limit.name: {"needed": limit.needed, "most": limit.most, "unit": limit.unit} for limit in found.limits}
    return asdict(found) | {
        "redis_memory_bytes": found.redis_memory_bytes,
        "limits": limits,
        "breaks_first": found.first.name,
        "releases": found.releases,
    }


def _rows(load: Load, settings: WorkerSettings, found: Plan) -> list[tuple[str, str, str]]:
    waits = found.slots_missions_per_second < found.core_missions_per_second
    slots = f"{settings.concurrency} slots handle {found.slots_missions_per_second:,.0f}"
    core = f"a core handles {found.core_missions_per_second:,.0f}"
    stored = {name: f"{size / GIB:,.1f}" for name, size in found.redis_bytes.items()}
    days = f"{format_duration(settings.ledger_ttl)} and {format_duration(settings.result_ttl)}"
    cost = found.cost
    return [
        (
            "missions/s",
            f"{found.missions_per_second:,.0f}, at the peak {found.missions_per_second_peak:,.0f}",
            f"the busiest hour has {load.peak:g} times the mean load",
        ),
        (
            "per worker process",
            f"{found.process_missions_per_second:,.0f}",
            f"{slots}, {core}" if waits else f"{core}, {slots}",
        ),
        ("worker pods", f"{found.pods:,}", f"one process each, {PLANNED_SHARE:.0%} busy at the peak"),
        ("their CPU at the peak", f"{found.worker_cores_peak:,.1f} cores", f"{cost.worker_ms:.2f} ms a mission"),
        (
            "requested by the chart",
            f"{found.requested_cores:,.1f} cores, {found.requested_memory_mib / 1024:,.1f} GiB",
            "250m and 256Mi a pod",
        ),
        (
            "Redis' one thread",
            f"{found.redis_thread:.0%}, at the peak {found.redis_thread_peak:.0%}",
            f"{cost.redis_us:.0f} µs a mission",
        ),
        (
            "Redis' commands/s at the peak",
            f"{found.redis_commands_per_second_peak:,.0f}",
            f"{cost.redis_commands:.0f} a mission, including those within functions",
        ),
        (
            "Redis' memory",
            f"{found.redis_memory_bytes / GIB:,.1f} GiB",
            "full queue {queue}, finished {finished}, results {results}, dead {dead}, audit {audit}, outcomes {outcomes}".format(
                **stored
            ),
        ),
        ("", "", f"retention: {days} (finished, results)"),
        (
            "network at the peak, Mbit/s",
            f"sites {found.sites_in_mbit_peak:,.0f} in, {found.sites_out_mbit_peak:,.0f} out",
            f"{load.document_kb:g} KB a document, without compression",
        ),
        (
            "",
            f"Redis {found.redis_in_mbit_peak:,.0f} in, {found.redis_out_mbit_peak:,.0f} out",
            f"{cost.redis_in_bytes / 1000:.1f} and {cost.redis_out_bytes / 1000:.1f} KB a mission; each replica receives the incoming traffic again",
        ),
    ]


def _breaks(found: Plan) -> list[str]:
    first = found.first
    has = f"{first.needed:,.0f} of {first.most:,.0f} {first.unit}"
    if first.share <= 1:
        return [f"No bottleneck. The first would be {first.name}: {has}."]
    over = sorted((limit for limit in found.limits if limit.share > 1), key=lambda limit: -limit.share)
    # Not `capitalize`, which lowercases the rest.
    return [
        f"First bottleneck: {first.name}, {has}.",
        *(f"{one.name[0].upper()}{one.name[1:]}: {one.then}." for one in over),
    ]
