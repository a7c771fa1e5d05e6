"""Encoded parts of a text: base64, hex, percent-encoding, HTML entities and the escapes of JSON and JavaScript strings.

A view is a decoded piece of the text, with enough context that a value keeps its key. Pieces of one encoding are joined into
views of some 64 KiB, with `SEPARATOR` between them. Each view is searched once more: depth 2, in any mix of encodings.

Every step is linear in the text on every input. Views of the first level hold at most `FACTORS[0]` times the text's characters, those
of the second `FACTORS[1]` times; one view at a time is in memory.
"""

from worker.extract.layers.levels import FACTORS, LEAST, views
from worker.extract.layers.view import SEPARATOR, View

__all__ = ["FACTORS", "LEAST", "SEPARATOR", "View", "views"]
