"""All views of a text, each followed by those of its own text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic

from mission.model import Cut
from worker.extract.layers.escapes import CONTEXT_CHARACTERS, ESCAPES, VIEW_CHARACTERS, spans, unescaped
from worker.extract.layers.runs import candidates, decoded_run
from worker.extract.layers.view import ESCAPED, ONE, Draft, View

# The limit on decoded characters, as a multiple of the text's, for each level; and its minimum, for small texts.
FACTORS = (2, 1)
LEAST = 64 * 1024


def views(text: str, cut: set[Cut], *, deadline: float) -> Iterator[View]:
    """All views of a text, each followed by those of its own text.

    Args:
        text: the document's.
        cut: gets `time` or `bytes` if not everything was decoded.
        deadline: on the monotonic clock, checked between pieces.
    """
    pool = _Pool([max(LEAST, factor * len(text)) for factor in FACTORS], cut, deadline)
    yield from _level(text, None, 0, pool)


@dataclass(slots=True)
class _Pool:
    """The remaining budget for decoding."""

    left: list[int]
    cut: set[Cut]
    deadline: float

    def late(self) -> bool:
        if monotonic() < self.deadline:
            return False
        self.cut.add(Cut.TIME)
        return True

    def take(self, level: int, size: int) -> bool:
        if size > self.left[level]:
            self.left[level] = 0
            self.cut.add(Cut.BYTES)
            return False
        self.left[level] -= size
        return True


def _level(text: str, parent: View | None, level: int, pool: _Pool) -> Iterator[View]:
    for view in _views(text, parent, pool):
        if pool.late() or not pool.take(level, len(view.text)):
            return
        yield view
        if level + 1 < len(FACTORS) and pool.left[level + 1]:
            yield from _level(view.text, view, level + 1, pool)


def _views(text: str, parent: View | None, pool: _Pool) -> Iterator[View]:
    yield from _runs(text, parent, pool)
    for encoding in ESCAPES:
        draft = Draft()
        for start, end in spans(text, encoding):
            if parent and parent.untouched(start, end):
                continue
            if pool.late():
                return
            draft.part(start)
            draft.add(unescaped(text[start:end], encoding), start, end, ESCAPED)
            if draft.size >= VIEW_CHARACTERS:
                yield draft.view(encoding, text, parent)
                draft = Draft()
        if draft.size:
            yield draft.view(encoding, text, parent)


def _runs(text: str, parent: View | None, pool: _Pool) -> Iterator[View]:
    drafts = {"base64": Draft(), "hex": Draft()}
    used = 0
    for start, end in candidates(text, pool.late):
        if end <= used or (parent and parent.untouched(max(0, start - 1), min(len(text), end + 1))):
            continue
        if pool.late():
            return
        found = decoded_run(text, max(start, used), end)
        if not found:
            continue
        low, (start, used, encoding, decoded) = used, found
        draft = drafts[encoding]
        draft.part(start)
        if "\n" not in decoded.strip():  # otherwise it has several lines, and may be a key file
            line = max(low, start - CONTEXT_CHARACTERS)
            line = max(line, text.rfind("\n", line, start) + 1)
            draft.add(text[line:start], line, start, ONE)
        draft.add(decoded, start, used, 4 if encoding == "base64" else 2 * ONE)  # 4 characters are 3 bytes
        if text.startswith(('"', "'", "`"), used):
            draft.add(text[used], used, used + 1, ONE)
        if draft.size >= VIEW_CHARACTERS:
            yield draft.view(encoding, text, parent)
            drafts[encoding] = Draft()
    for encoding, draft in drafts.items():
        if draft.size:
            yield draft.view(encoding, text, parent)
