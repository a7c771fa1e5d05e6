"""Positions in a text: line and column from 1, in characters (code points)."""

from __future__ import annotations


class Places:
    r"""Lines and columns of one text. A line ends with `\n`, `\r\n` or a lone `\r`.

    Counting continues from the position before, so all positions together read the text once.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._column, self._counted = 1, 1, 0

    def at(self, offset: int) -> tuple[int, int]:
        """Line and column of the character at `offset`. It is not white space, and not before the offset of the last call."""
        text, counted = self._text, self._counted
        # The character is not a line end, so no \r\n is split between two calls.
        breaks = text.count("\n", counted, offset) + text.count("\r", counted, offset)
        if breaks:
            self._line += breaks - text.count("\r\n", counted, offset)
            self._column = offset - max(text.rfind("\n", counted, offset), text.rfind("\r", counted, offset))
        else:
            self._column += offset - counted
        self._counted = offset
        return self._line, self._column
