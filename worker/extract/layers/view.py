"""A decoded piece of a text, and the position in the text that each of its characters comes from."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property

from worker.extract.layers.escapes import ESCAPES

# Separates the pieces that a view joins. It is not only white space and not part of a word, so no rule matches across it.
SEPARATOR = "\n#\n"
ONE = 3  # the unit of a step from one character to the next: thirds of a source character
ESCAPED = -1  # the step of text that mixes escapes and plain characters
# Its start in the view; the start and end of its source; its step.
Piece = tuple[int, int, int, int]


@dataclass(frozen=True)
class View:
    """A decoded piece of a text.

    Attributes:
        text: the decoded text. It has no lone surrogates that the document's text does not have.
        encoding: `base64`, `hex`, `percent`, `html` or `json`. A view of a view has both, joined with `+`, the outer one first.
    """

    text: str = field(repr=False)
    encoding: str
    _source: str = field(repr=False)
    _pieces: list[Piece] = field(repr=False)
    _parent: View | None = field(repr=False)

    def origin(self, offset: int) -> int:
        """The position in the document's own text, in characters, of the character at `offset` of the view.

        Exact for an escaped character. In base64 or hex it ignores line breaks and counts each character as one byte. So it may be
        too early, but it is inside the run and never decreases as `offset` grows.
        """
        starts, sources, steps = self._map
        at = bisect_right(starts, offset) - 1
        source = sources[at] + (offset - starts[at]) * steps[at] // ONE
        return self._parent.origin(source) if self._parent else source

    def untouched(self, start: int, end: int) -> bool:
        """Whether a span is the same in the source of the view, so that the level above has already searched it."""
        starts, _, steps = self._map
        at = bisect_right(starts, start) - 1
        return steps[at] == ONE and at == bisect_right(starts, max(start, end - 1)) - 1

    @cached_property
    def _map(self) -> tuple[array[int], array[int], array[int]]:
        """The starts of runs in the view, their starts in the source, and their steps. Computed on demand, as few views need it."""
        starts, sources, steps = array("q"), array("q"), array("q")

        def run(source: int, step: int) -> None:
            starts.append(at)
            sources.append(source)
            steps.append(step)

        for at, source, end, step in self._pieces:
            if step != ESCAPED:
                run(source, step)
                continue
            _, pattern, decode = ESCAPES[self.encoding.rpartition("+")[2]]
            for match in pattern.finditer(self._source, source, end):
                start, after = match.span()
                if start > source:
                    run(source, ONE)
                decoded = len(decode(match))
                at += start - source
                run(start, (after - start) * ONE // decoded)
                at += decoded
                source = after
            if source < end:
                run(source, ONE)
        return starts, sources, steps


class Draft:
    """A view under construction."""

    def __init__(self) -> None:
        self.size = 0
        self._texts: list[str] = []
        self._pieces: list[Piece] = []

    def add(self, text: str, source: int, end: int, step: int) -> None:
        """Append text that comes from `source` to `end` in the source."""
        if text:
            self._texts.append(text)
            self._pieces.append((self.size, source, end, step))
            self.size += len(text)

    def part(self, source: int) -> None:
        """Separate the text that follows, which starts at `source`, from the text before it."""
        if self.size:
            self.add(SEPARATOR, source, source, 0)

    def view(self, encoding: str, source: str, parent: View | None) -> View:
        """The finished view."""
        name = f"{parent.encoding}+{encoding}" if parent else encoding
        return View("".join(self._texts), name, source, self._pieces, parent)
