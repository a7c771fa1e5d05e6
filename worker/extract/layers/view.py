"""A piece of a text as it reads decoded, and where in the text each of its characters comes from."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property

from worker.extract.layers.escapes import ESCAPES

# Between the pieces that a view joins: neither white space alone nor part of a word, so no rule reads across.
SEPARATOR = "\n#\n"
ONE = 3  # steps from one character to the next are counted in thirds
ESCAPED = -1  # text in which escapes and plain characters take turns
# Where it begins in the view; where its source begins and ends; its step.
Piece = tuple[int, int, int, int]


@dataclass(frozen=True)
class View:
    """A decoded piece of a text.

    Attributes:
        text: as it reads decoded. It holds no lone surrogate that the document's text did not.
        encoding: `base64`, `hex`, `percent`, `html` or `json`; of a view's view both with `+` between, the outer one first.
    """

    text: str = field(repr=False)
    encoding: str
    _source: str = field(repr=False)
    _pieces: list[Piece] = field(repr=False)
    _parent: View | None = field(repr=False)

    def origin(self, offset: int) -> int:
        """Where, in characters of the document's own text, that begins which stands at `offset` of the view.

        Exact for a character that was escaped. In base64 or hex it is where the character is, less line breaks and whatever a
        character takes more than a byte: never outside of the run, and never before what stands before it.
        """
        starts, sources, steps = self._map
        at = bisect_right(starts, offset) - 1
        source = sources[at] + (offset - starts[at]) * steps[at] // ONE
        return self._parent.origin(source) if self._parent else source

    def untouched(self, start: int, end: int) -> bool:
        """Whether a span reads just so in what the view was made of: the level above has looked at it."""
        starts, _, steps = self._map
        at = bisect_right(starts, start) - 1
        return steps[at] == ONE and at == bisect_right(starts, max(start, end - 1)) - 1

    @cached_property
    def _map(self) -> tuple[array[int], array[int], array[int]]:
        """Where runs of the view's text begin, where in the source, and by how much a character steps on; few ask for it."""
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
    """A view that is being written."""

    def __init__(self) -> None:
        self.size = 0
        self._texts: list[str] = []
        self._pieces: list[Piece] = []

    def add(self, text: str, source: int, end: int, step: int) -> None:
        """Text that comes from there in the source."""
        if text:
            self._texts.append(text)
            self._pieces.append((self.size, source, end, step))
            self.size += len(text)

    def part(self, source: int) -> None:
        """Whatever comes next, from `source` on, stands apart from what came before."""
        if self.size:
            self.add(SEPARATOR, source, source, 0)

    def view(self, encoding: str, source: str, parent: View | None) -> View:
        """All of it."""
        name = f"{parent.encoding}+{encoding}" if parent else encoding
        return View("".join(self._texts), name, source, self._pieces, parent)
