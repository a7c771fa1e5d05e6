"""How missions ended, as a stream with one entry for each end (https://valkey.io/topics/streams-intro/).

An entry holds id, submitter, state, reason, number of secrets and times; never a URL or a secret. The newest million are kept
(`mission.store.library.MOST_OUTCOMES`), but no longer than an ended mission itself (`DECODER_LEDGER_TTL`).

A group of readers shares them: each outcome goes to one reader. If that reader does not acknowledge it, it goes to another.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

import redis

from mission.errors import InvalidMission, LedgerUnavailable
from mission.model import Outcome, Reason, State
from mission.settings import Settings
from mission.store.connection import outages
from mission.store.entries import instant, known, number, word
from mission.store.names import Key
from mission.store.scripts import Scripts, as_text

log = logging.getLogger("mission.outcomes")

_GROUP = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# A reader takes up to this many at a time. If a batch takes it longer than this time (in seconds), it takes fewer, down to one.
MOST_AT_ONCE = 256
_AT_ONCE_SECONDS = 0.5
# The longest time that a command waits for the next outcome: connections have a time limit.
_LISTEN_SECONDS = 1.0
# Pauses while Redis is down, and after another reader of the group was faster.
_AWAY_SECONDS = 0.5
_LATE_SECONDS = 0.05
# How many ids are checked in turn when no notice of them comes.
_TURN = 256


class Outcomes:
    """Reads the stream. Thread-safe.

    Every method raises `LedgerUnavailable` if Redis does not answer in time or refuses.
    """

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._client = client
        self._scripts = Scripts(client, settings)
        self._stay = max(1, round(settings.ledger_ttl))
        self._listen_seconds = min(_LISTEN_SECONDS, settings.redis_timeout / 2)

    def follow(
        self, group: str | None, since: datetime | None, *, endless: bool, hold_seconds: float
    ) -> Iterator[Outcome]:
        """The outcomes for a reader of the group, or for a reader without a group. A new group or reader begins now, or at `since`.

        Raises:
            InvalidMission: an argument is refused.
        """
        if group is not None and not _GROUP.fullmatch(group):
            raise _refused("a group's name has up to 64 letters, digits and . _ -, and starts with a letter or digit")
        if since is not None and since.tzinfo is None:
            raise _refused("`since` takes a time with a zone, like datetime.now(UTC)")
        if not 1 <= hold_seconds <= 86_400:
            raise _refused("hold_seconds takes 1 to 86400")
        begin = "$" if since is None else f"{max(0, math.ceil(since.timestamp() * 1000) - 1)}-{2**64 - 1}"
        reader = _Reader(self, group or "", begin, hold_seconds)
        reader.take(0)  # it begins now, not when the first outcome is asked for
        return reader.outcomes(endless=endless)

    def take(
        self, group: str, most: int, hold_seconds: float, place: str, count: str, done: Sequence[str]
    ) -> tuple[str, str, list[Outcome]]:
        """The position after the next outcomes, the count delivered up to there, and up to `most` outcomes. See `lua/follow.lua`."""
        args = (group, most, round(hold_seconds * 1000), self._stay, place, count, *done)
        place, told, missed, entries = self._scripts.run("follow", *args)
        found = [_outcome(id_, dict(zip(fields[::2], fields[1::2], strict=False))) for id_, fields in entries]
        if found and missed:
            found[0] = replace(found[0], missed=int(missed))
        return as_text(place), as_text(told), found

    def after(self, place: str, seconds: float, most: int) -> list[Outcome]:
        """Up to `most` outcomes after a position: at once if there are any, else after waiting up to `seconds`."""
        block = max(1, round(1000 * min(seconds, self._listen_seconds)))
        with outages():
            answer: Any = self._client.xread({Key.OUTCOMES: place}, count=most, block=block)
        return [_outcome(id_, fields) for _, entries in answer or () for id_, fields in entries]

    def now(self) -> str:
        """A position before all missions that end from now on."""
        with outages():
            seconds, micros = self._client.time()
        return f"{seconds * 1000 + micros // 1000}-0"


class _Reader:
    """A reader of outcomes. It keeps its own position; in a group, Redis keeps the group's."""

    def __init__(self, source: Outcomes, group: str, begin: str, hold_seconds: float) -> None:
        self._source = source
        self._group = group
        self._hold_seconds = hold_seconds
        self._place, self._count = begin, ""
        self._done: list[str] = []

    def take(self, most: int) -> list[Outcome]:
        """The next outcomes; the same call acknowledges the finished ones."""
        at = (self._place, self._count)
        self._place, self._count, told = self._source.take(self._group, most, self._hold_seconds, *at, self._done)
        self._done.clear()
        return told

    def outcomes(self, *, endless: bool) -> Iterator[Outcome]:
        """Yield each outcome; asking for the next one acknowledges it."""
        most, late = 1, False
        try:
            while True:
                told = self._patiently(most) if endless else self.take(most)
                began = time.monotonic()
                for outcome in told:
                    # Leave outcomes that have waited here for too long to another reader: they soon go there anyway.
                    if self._group and time.monotonic() - began > self._hold_seconds / 2:
                        break
                    yield outcome
                    if self._group:
                        self._done.append(outcome.place)
                if told:
                    quick = time.monotonic() - began < _AT_ONCE_SECONDS
                    most, late = min(2 * most, MOST_AT_ONCE) if quick else max(1, most // 2), False
                elif not endless:
                    return
                else:
                    if late:
                        time.sleep(_LATE_SECONDS)
                    late = self._listen()
        finally:
            if self._done:
                with suppress(LedgerUnavailable):
                    self.take(0)

    def _patiently(self, most: int) -> list[Outcome]:
        """Call `take`, and wait while Redis is down."""
        away = False
        while True:
            try:
                told = self.take(most)
            except LedgerUnavailable as error:
                if not away:
                    log.warning("cannot follow the outcomes now: %s", error)
                away = True
                time.sleep(_AWAY_SECONDS)
            else:
                if away:
                    log.warning("following the outcomes again")
                return told

    def _listen(self) -> bool:
        """Wait for a while; return whether a mission has ended."""
        try:
            return bool(self._source.after(self._place, _LISTEN_SECONDS, 1))
        except LedgerUnavailable:
            return False  # the next call waits


class Ends:
    """Reports the ends of several missions while they are in `waiting`; the caller removes those that have ended.

    One reader of the stream costs Redis less than polling each mission. To wait for only one mission, use
    `mission.store.notices`.
    """

    def __init__(self, source: Outcomes, waiting: Collection[str]) -> None:
        self._source = source
        self._waiting = waiting
        self._place: str | None = None
        self._turn: Iterator[str] = iter(())

    def wait(self, seconds: float) -> list[str]:
        """The missions that may have news. The first call returns all of them, once it listens; without news, later calls return some in turn."""
        until = time.monotonic() + seconds
        try:
            if self._place is None:
                self._place = self._source.now()
                return list(self._waiting)
            while (left := until - time.monotonic()) > 0:
                ended = self._source.after(self._place, left, 1000)
                if ended:
                    self._place = ended[-1].place
                if ours := dict.fromkeys(one.id for one in ended if one.id in self._waiting):
                    return list(ours)
        except LedgerUnavailable:  # also if this login may not read the outcomes
            time.sleep(max(0.0, until - time.monotonic()))
        if not (some := list(islice(self._turn, _TURN))):
            self._turn = iter(list(self._waiting))
            some = list(islice(self._turn, _TURN))
        return [mission_id for mission_id in some if mission_id in self._waiting]


def _refused(detail: str) -> InvalidMission:
    return InvalidMission(Reason.MALFORMED_MESSAGE, detail)


def _outcome(place: bytes, fields: Mapping[bytes, bytes]) -> Outcome:
    """An outcome from an entry, which any login may have written."""
    return Outcome(
        id=word(fields.get(b"id")),
        submitter=word(fields.get(b"submitter")),
        state=known(State, word(fields.get(b"state"))),
        reason=known(Reason, word(fields.get(b"reason"))) or None,
        secrets=number(fields.get(b"secrets")),
        submitted_at=instant(fields.get(b"submitted_at")),
        finished_at=instant(fields.get(b"finished_at")),
        place=as_text(place),
    )
