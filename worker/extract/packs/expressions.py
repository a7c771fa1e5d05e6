"""Filter expressions, which discard a finding if they are true: written for gitleaks' terms, rewritten from betterleaks'.

The engine supports only a part of betterleaks' language (expr-lang), and its errors name neither the unsupported word nor its position.
So this module checks for unsupported words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_TEXT = r"""(?:`[^`]*`|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')"""
_TOKEN = re.compile(
    rf"""(?P<space>\s+|//[^\n]*)|(?P<text>{_TEXT})
    |(?P<owner>attributes|finding)\b\s*(?:\[\s*(?P<key>{_TEXT})\s*\]|\.\s*(?P<name>[A-Za-z_]\w*))
    |(?P<helper>filter\s*\.\s*)?(?P<word>[A-Za-z_$\#][\w$\#]*)(?P<called>(?=\s*\())?
    |(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
# Functions that the engine's filters can call, with words that a parenthesis may follow; then the methods of values.
_FUNCTIONS = (
    "any containsAny entropy failsTokenEfficiency findMatch join lastIndexOf len lower matchesAny max min replace "
    "setConfidence size split tokenRatio and or not in contains let"
)
_METHODS = "contains startsWith endsWith substring lastIndexOf replace"
_NO_OPERATORS = "startsWith endsWith matches"
_OF_A_FINDING = (
    "secret match line rule_id description context fragment_raw match_start_idx match_end_idx match_line_start_idx "
    "match_line_end_idx captures"
)
PATH = '(attributes["path"] ?? "")'
SECRET = 'finding["secret"]'  # noqa: S105  # the expression for a finding's secret


def quoted(text: str) -> str:
    """A text as a string literal of an expression."""
    if "`" not in text:
        return f"`{text}`"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def matches_any(target: str, regexes: Iterable[str]) -> str:
    """An expression: one of the regexes matches."""
    return f"matchesAny({target}, [{', '.join(map(quoted, regexes))}])"


def contains_any(target: str, words: Iterable[str]) -> str:
    """An expression: the target contains one of the words, in any case."""
    return f"containsAny({target}, [{', '.join(map(quoted, words))}])"


def path_matches(regexes: Iterable[str]) -> str:
    """An expression: the document has a path that one of the regexes matches. Without a path none matches, not even `.*`."""
    return f'({PATH} != "" && {matches_any(PATH, regexes)})'


def low_entropy(threshold: float) -> str:
    """An expression: the secret has at most `threshold` bits per character. gitleaks keeps secrets that have more."""
    written = f"{threshold:.6f}".rstrip("0")
    return f"entropy({SECRET}) <= {written}0"


def either(expressions: Iterable[str]) -> str:
    """An expression: one of the expressions is true; "" if there are none."""
    # The engine's lexer fails on a number or a word at the very end, and a comment would swallow the text after it.
    return " || ".join(f"(\n{expression}\n)" for expression in expressions if expression)


def rewritten(expression: str, say: Callable[[str], None]) -> str:
    """A betterleaks expression in the engine's syntax: `get()` becomes an index, an absent attribute becomes "".

    Args:
        expression: from the pack.
        say: receives each thing that the engine does not support.
    """
    written: list[str] = []
    gets: list[list[int]] = []  # of each open get(): the depth of its values, and the number of commas so far
    depth, before = 0, ""
    for token in _TOKEN.finditer(expression):
        text, member = token.group(), before == "."
        if token["space"]:
            written.append(text)
            continue
        before = text
        if token["owner"] and not member:
            key = token["name"] or token["key"][1:-1]
            if token["owner"] == "attributes":
                text = f'(attributes[{quoted(key)}] ?? "")'
            else:
                text = f"finding[{quoted(key)}]"
                if key not in _OF_A_FINDING.split():
                    say(f"a finding has no `{key}`")
        elif text == "get" and token["called"] is not None and not member:
            gets.append([depth + 1, 0])
            text = ""
        elif word := token["word"]:
            called = token["called"] is not None
            if not member and word in _NO_OPERATORS.split():
                say(f"the engine's filters have no operator `{word}`")
            elif called and word not in (_METHODS if member else _FUNCTIONS).split():
                say(f"the engine's filters have no function `{word}`")
        elif token["other"]:
            depth += text in "([{"
            if gets and gets[-1][0] == depth and text in ",)":
                commas = gets[-1][1] = gets[-1][1] + (text == ",")
                if text == ")":
                    gets.pop()
                    text = "] ?? nil)" if commas == 1 else text
                else:
                    text = "[" if commas == 1 else "] ?? "
                if commas not in (1, 2):
                    say("`get` takes two or three values")
            depth -= before in ")]}"
        written.append(text)
    if gets:
        say("a parenthesis is not closed")
    return "".join(written)
