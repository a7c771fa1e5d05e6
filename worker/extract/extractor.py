"""From a document's bytes to its secrets: members → texts → decoded layers → detectors → one list.

Detectors run by rank: markers, the catalog of providers, the user's packs, generic rules. If two match the same text, the higher
rank reports it. Within a rank a decoded match wins, then the more confident one, then the longer one.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from time import monotonic

from mission.errors import MissionFailed
from mission.model import Confidence, Cut, Extraction, Reason, Secret
from worker.extract.archives import looks_like_text, members
from worker.extract.charset import decode_body
from worker.extract.detectors import MARKER, Detectors
from worker.extract.engine import Match
from worker.extract.findings import MAX_SECRETS, Findings
from worker.extract.layers import View, views
from worker.extract.markers import Markers
from worker.extract.places import Places

# Seconds for all rules on one document; its deadline may leave less.
BUDGET_SECONDS = 5.0
# The maximum number of rule matches to process; many may have the same value.
MAX_HITS = 4 * MAX_SECRETS
# Characters of a text whose decoded pieces are kept for all detectors.
SHORT = 256 * 1024

_SURENESS = tuple(Confidence)
# Never in percent-encoded text: `%` without an escape, an escaped letter or digit, or a character that must be escaped.
_NO_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})|%(?:3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])|[@^$#{}|]")


class Extractor:
    """Finds the secrets of documents; any number of threads may share it.

    Args:
        detectors: the detectors and their options; by default all.
        max_bytes: the limit on one result's plaintext.

    Raises:
        SettingsError: a file of rules has a problem.
    """

    def __init__(self, detectors: Detectors | None = None, max_bytes: int = 1024 * 1024) -> None:
        self.detectors = detectors = detectors or Detectors()
        self.max_bytes = max_bytes
        self.markers = Markers(*detectors.markers) if MARKER in detectors.names else None
        self.scanners = tuple(detectors.scanners())

    def extract(self, body: bytes, content_type: str | None = None, deadline: float = math.inf) -> Extraction:
        """The secrets of a document: first marked ones in the order of the text, then matches of rules.

        Args:
            body: of the document; if it is an archive, its members are searched.
            content_type: names its charset.
            deadline: on the monotonic clock.

        Raises:
            MissionFailed: `too_many_secrets` or `result_too_large`: the marked secrets exceed a limit.
        """
        search = _Search(self, deadline)
        packed = False
        for member in members(body, search.until, search.cut):
            packed = True
            if looks_like_text(member.body):
                search.text(decode_body(member.body, None), member.path)
        if not packed:  # or it only begins like an archive
            search.text(decode_body(body, content_type), "")
        return search.done()

    def search(self, text: str, deadline: float = math.inf) -> Extraction:
        """Like `extract`, for one text."""
        search = _Search(self, deadline)
        search.text(text, "")
        return search.done()


@dataclass(frozen=True, slots=True)
class _Hit:
    """A rule's match, and its position in the document's text, encoded or not."""

    rank: int
    encoding: str
    depth: int
    match: Match
    start: int
    end: int

    @property
    def order(self) -> tuple[int, int, int, int, int]:
        """The sort key if several hits match the same text: the lowest one is reported."""
        return self.rank, -self.depth, _SURENESS.index(self.match.confidence), self.start - self.end, self.start


def _placed(rank: int, view: View | None, match: Match, text: str) -> _Hit:
    if view is None:
        return _Hit(rank, "", 0, match, match.start, match.end)
    start, last = view.origin(match.start), view.origin(max(match.start, match.end - 1))
    end = max(start, last) + 1
    by_chance = view.encoding == "percent" and _NO_PERCENT.search(text, start, end)
    return _Hit(rank, view.encoding, -1 if by_chance else view.encoding.count("+") + 1, match, start, end)


class _Search:
    """One document's search."""

    def __init__(self, extractor: Extractor, deadline: float) -> None:
        self._extractor = extractor
        self.until = min(deadline, monotonic() + BUDGET_SECONDS)
        self.cut: set[Cut] = set()
        self._found = Findings(extractor.max_bytes)
        self._by_rules: dict[tuple[str, str, str], Secret] = {}

    def text(self, text: str, path: str) -> None:
        """Search one text: the document's, or an archive member's."""
        taken = _Spans()
        if self._extractor.markers is not None:
            places = Places(text)
            for marked in self._extractor.markers.marked(text):
                line, column = places.at(marked.start)
                self._found.add(Secret(MARKER, marked.category, marked.value, line, column, path=path))
                taken.add(marked.start, marked.end)
        # Rules skip marked text. In a long text they do not, since a copy of it would need too much memory.
        rest = taken.blanked(text) if len(text) <= SHORT else text
        hits = [hit for hit in sorted(self._hits(rest), key=lambda hit: hit.order) if taken.add(hit.start, hit.end)]
        places = Places(text)
        for hit in sorted(hits, key=lambda hit: hit.start):
            self._tell(hit, path, *places.at(hit.start))

    def _hits(self, text: str) -> Iterator[_Hit]:
        scanners = self._extractor.scanners
        if not scanners:
            return
        left = MAX_HITS
        decoded: Iterable[View] = ()
        for rank, scanner in enumerate(scanners):
            if not isinstance(decoded, list):
                decoded = views(text, self.cut, deadline=self.until)
                # For a long text each detector decodes again: all views together need more memory than the text.
                decoded = list(decoded) if len(text) <= SHORT else decoded
            for view in chain((None,), decoded):
                for match in scanner.matches(view.text if view else text, self.until, self.cut):
                    if not left:
                        self.cut.add(Cut.SECRETS)
                        return
                    left -= 1
                    yield _placed(rank, view, match, text)

    def _tell(self, hit: _Hit, path: str, line: int, column: int) -> None:
        detector, match = self._extractor.scanners[hit.rank].detector, hit.match
        key = detector, match.category, match.value
        if known := self._by_rules.get(key):
            self._by_rules[key] = replace(known, count=known.count + 1)
        elif len(self._by_rules) == MAX_SECRETS:
            self.cut.add(Cut.SECRETS)
        else:
            self._by_rules[key] = Secret(*key, line, column, match.confidence, path, hit.encoding)

    def done(self) -> Extraction:
        """All marked secrets, and as many matches of rules as the limits allow."""
        for secret in self._by_rules.values():
            try:
                self._found.add(secret)
            except MissionFailed as refusal:
                self.cut.add(Cut.SECRETS if refusal.reason is Reason.TOO_MANY_SECRETS else Cut.BYTES)
        return Extraction(self._found.secrets, self.cut)


class _Spans:
    """Non-overlapping parts of a text that are already reported."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, start: int, end: int) -> bool:
        """Take a span; false if it overlaps one that is taken."""
        at = bisect_left(self._starts, end)
        if at and self._ends[at - 1] > start:
            return False
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        return True

    def blanked(self, text: str) -> str:
        """The text with these spans blanked."""
        pieces: list[str] = []
        told = 0
        for start, end in zip(self._starts, self._ends, strict=True):
            pieces += text[told:start], " " * (end - start)
            told = end
        return "".join((*pieces, text[told:]))
