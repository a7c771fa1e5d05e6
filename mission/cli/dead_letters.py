"""`decoder dead-letters`: list, show, replay or discard dead letters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import click
from tqdm import tqdm

from mission.audit.log import AuditLog
from mission.cli.console import (
    BAR_SECONDS,
    DurationType,
    complain,
    emit_json,
    emit_records,
    emit_table,
    json_option,
    note,
    say,
    why_option,
)
from mission.cli.help import Group
from mission.errors import UnknownMission
from mission.ids import check_mission_id
from mission.model import Reason
from mission.operate.dead_letters import DeadLetter, DeadLetters
from mission.settings import Settings
from mission.store.connection import connect

# From this many missions on, a terminal shows a progress bar.
MANY = 20


@click.group("dead-letters", cls=Group)
def dead_letters() -> None:
    """List, show, replay or discard dead letters.

    \b
    Example:
      decoder dead-letters list --older-than 1h
    """


class _ReasonType(click.Choice[str]):
    """A reason. There are too many for one line, so the error for a misspelt one suggests the nearest."""

    def get_invalid_choice_message(self, value: object, ctx: click.Context | None) -> str:
        del ctx
        near = get_close_matches(str(value), self.choices, n=8, cutoff=0.5)
        shown = ", ".join(repr(choice) for choice in self.choices if choice in near)
        return f"{value!r} is not a reason; {f'similar reasons: {shown}' if near else 'takes one like read_timeout'}."


def _filters(command: Callable[..., None]) -> Callable[..., None]:
    reason = click.option(
        "--reason",
        type=_ReasonType([item.value for item in Reason]),
        metavar="REASON",
        help="With this reason, like read_timeout.  [default: any]",
    )
    age = click.option(
        "--older-than",
        type=DurationType(),
        help="Dead for at least this long, like 90s, 5m or 24h.  [default: any age]",
    )
    return reason(age(command))


def _selection(command: Callable[..., None]) -> Callable[..., None]:
    ids = click.argument("ids", nargs=-1, metavar="[ID]...")
    every = click.option("--all", "every", is_flag=True, help="Select all dead letters.")
    why = why_option("--why", "Reason, recorded in the audit log. (In this command, --reason selects dead letters.)")
    return ids(_filters(every(why(json_option(command)))))


@dead_letters.command("list", reads=("redis_url", "redis_ca_file"))
@_filters
@json_option
def list_(reason: str | None, older_than: float | None, as_json: bool) -> None:
    """Print the dead letters, the oldest first.

    \b
    Example:
      decoder dead-letters list --reason read_timeout --older-than 1h
    """
    letters = (letter.as_dict() for letter in _find(_open(), reason, older_than))
    fields = ("id", "reason", "allowed_by", "attempts", "submitter", "died_at")
    emit_records(letters, as_json=as_json, fields=fields, none="no dead letters")


@dead_letters.command(reads=("redis_url", "redis_ca_file"))
@click.argument("mission_id", metavar="ID")
@json_option
def show(mission_id: str, as_json: bool) -> None:
    """Print one dead letter and how each of its attempts ended.

    \b
    Example:
      decoder dead-letters show 0f8fad5b-d9cb-469f-a165-70867728950e
    """
    facts = _open().get(mission_id).as_dict()
    if as_json:
        emit_json(facts)
        return
    history = facts.pop("history")
    emit_table(("WHAT", "VALUE"), list(facts.items()))
    say("")
    emit_records(history, as_json=False)


@dead_letters.command(reads=("redis_url", "redis_ca_file"))
@_selection
def replay(**selection: Any) -> None:
    """Requeue dead missions.

    Their attempts count from zero, their lifetime starts now. Name them, or select them by --reason, --older-than or both, or use --all. Missions that are no longer dead are skipped
    with the reason, so it is safe to repeat the command.

    \b
    Example:
      decoder dead-letters replay --reason connection_failed --why "the mirror is back"
    """
    _act(DeadLetters.replay, "replayed", **selection)


@dead_letters.command(reads=("redis_url", "redis_ca_file"))
@_selection
def discard(**selection: Any) -> None:
    """Remove missions from the dead letters for good.

    They stay dead, and their URLs are deleted. Name them, or select them by --reason, --older-than or both, or use --all.

    \b
    Example:
      decoder dead-letters discard --older-than 7d --why "nobody asked"
    """
    _act(DeadLetters.discard, "discarded", **selection)


def _open() -> DeadLetters:
    settings = Settings.from_env()
    client = connect(settings)
    return DeadLetters(client, settings, AuditLog(client))


def _find(letters: DeadLetters, reason: str | None, older_than: float | None) -> Iterator[DeadLetter]:
    return letters.find(reason=Reason(reason) if reason else None, older_than_seconds=older_than or 0.0)


def _because(state: str) -> str:
    if state == "discarded":
        return "it was discarded and its URL deleted; enqueue it again"
    return f"it is {state}, not dead"


def _act(
    act: Callable[..., bool],
    done: str,
    *,
    ids: Sequence[str],
    reason: str | None,
    older_than: float | None,
    every: bool,
    why: str,
    as_json: bool,
) -> None:
    """Act on each selected mission and report it; exit code 1 if the ledger no longer holds one of them."""
    letters = _open()
    filtered = reason is not None or older_than is not None
    if bool(ids) + filtered + every != 1:
        raise click.UsageError("name missions, or select them by --reason and --older-than, or use --all")
    chosen = [check_mission_id(item) for item in ids] or [letter.id for letter in _find(letters, reason, older_than)]
    watched = len(chosen) >= MANY and sys.stderr.isatty()
    if not chosen:
        note("no dead letter matches")
    count = unknown = 0
    for mission_id in tqdm(chosen, unit=" missions", disable=not watched, delay=BAR_SECONDS, file=sys.stderr):
        state = ""
        try:
            if not act(letters, mission_id, why=why):
                state = letters.state(mission_id)
                if not as_json:
                    note(f"{mission_id} was not {done}: {_because(state)}")
        except UnknownMission as error:
            state = "unknown"
            unknown += 1
            complain(error)
        count += not state
        if as_json:
            emit_json({"id": mission_id, done: not state} | ({"because": state} if state else {}))
    if not as_json:
        say(f"{count} of {len(chosen)} {done}")
    if unknown:
        raise SystemExit(1)
