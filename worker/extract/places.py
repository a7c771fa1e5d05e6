"""Positions in a text: line and column from 1, in characters (code points)."""

from __future__ import annotations


class Places:
    r"""Lines and columns of one text. A line ends with `\n`, `\r\n` or a lone `\r`.

    Each is counted on from the one before, so that all of them together read the text once.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._line, self._column, self._counted = 1, 1, 0

    def at(self, offset: int) -> tuple[int, int]:
        """Line and column of a character that is not white space, at this offset or behind the one asked for before."""
        text, counted = self._text, self._counted
        # It is no line's end itself, so a pair of \r\n never straddles two of them.
        breaks = text.count("\n", counted, offset) + text.count("\r", counted, offset)
        if breaks:
            self._line += breaks - text.count("\r\n", counted, offset)
            self._column = offset - max(text.rfind("\n", counted, offset), text.rfind("\r", counted, offset))
        else:
            self._column += offset - counted
        self._counted = offset
        return self._line, self._column
