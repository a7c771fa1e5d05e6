"""Filter expressions, which discard a finding when they are true: written for gitleaks' terms, rewritten for betterleaks'.

The engine knows a part of betterleaks' language (expr-lang), and says of what it does not know neither what nor where. So it is
looked for here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\n]*)|(?P<text>`[^`]*`|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')|(?P<word>[A-Za-z_$\#][\w$\#]*)|(?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
# What the engine's filters can call, and of a value's own methods.
_FUNCTIONS = frozenset(
    [
        "any",
        "containsAny",
        "entropy",
        "failsTokenEfficiency",
        "findMatch",
        "join",
        "lastIndexOf",
        "len",
        "lower",
        "matchesAny",
        "max",
        "min",
        "replace",
        "setConfidence",
        "size",
        "split",
        "tokenRatio",
    ]
)
_METHODS = frozenset(["contains", "startsWith", "endsWith", "substring", "lastIndexOf", "replace"])
_WORDS_BEFORE_PARENTHESES = frozenset(["and", "or", "not", "in", "contains", "let"])
_NO_OPERATORS = frozenset(["startsWith", "endsWith", "matches"])
_OF_A_FINDING = frozenset(
    [
        "secret",
        "match",
        "line",
        "rule_id",
        "description",
        "context",
        "fragment_raw",
        "match_start_idx",
        "match_end_idx",
        "match_line_start_idx",
        "match_line_end_idx",
        "captures",
    ]
)
PATH = '(attributes["path"] ?? "")'
SECRET = 'finding["secret"]'  # noqa: S105  # where a finding's secret stands

_Token = tuple[str, str]


def quoted(text: str) -> str:
    """A text in the expressions' notation."""
    if "`" not in text:
        return f"`{text}`"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def matches_any(target: str, regexes: Iterable[str]) -> str:
    """One of the regexes matches."""
    return f"matchesAny({target}, [{', '.join(map(quoted, regexes))}])"


def contains_any(target: str, words: Iterable[str]) -> str:
    """One of the words stands in it, in any case."""
    return f"containsAny({target}, [{', '.join(map(quoted, words))}])"


def path_matches(regexes: Iterable[str]) -> str:
    """The document has a path, and one of the regexes matches it: without a path no regex for one does, not even `.*`."""
    return f'({PATH} != "" && {matches_any(PATH, regexes)})'


def low_entropy(threshold: float) -> str:
    """The secret has so many bits a character, or less: gitleaks keeps what has more."""
    written = f"{threshold:.6f}".rstrip("0")
    return f"entropy({SECRET}) <= {written}0"


def either(expressions: Iterable[str]) -> str:
    """One of them is true; "" of none."""
    # The engine's lexer fails on a number or a word at the very end, and a comment would take what follows it.
    return " || ".join(f"(\n{expression}\n)" for expression in expressions if expression)


def rewritten(expression: str, say: Callable[[str], None]) -> str:
    """An expression of betterleaks' in the engine's words: `get()` and `getPath()` become indexes, absent attributes "".

    Args:
        expression: as the pack has it.
        say: takes what the engine cannot do.
    """
    return _Rewriting(expression, say).all()


class _Rewriting:
    def __init__(self, expression: str, say: Callable[[str], None]) -> None:
        self._say = say
        self._tokens: list[_Token] = [
            (match.lastgroup or "other", match.group()) for match in _TOKEN.finditer(expression)
        ]

    def all(self) -> str:
        return self._range(0, len(self._tokens))

    def _range(self, start: int, end: int) -> str:
        written: list[str] = []
        at = start
        while at < end:
            kind, text = self._tokens[at]
            if kind != "word":
                written.append(text)
                at += 1
                continue
            member = self._before(at) == "."
            follows = self._after(at)
            if not member and text in ("get", "getPath") and self._is(follows, "("):
                replaced, at = self._get(text, follows)
                written.append(replaced)
            elif not member and text in ("attributes", "finding"):
                replaced, at = self._field(text, at)
                written.append(replaced)
            else:
                self._check(text, at, member=member, called=self._is(follows, "("))
                written.append(text)
                at += 1
        return "".join(written)

    def _check(self, word: str, at: int, *, member: bool, called: bool) -> None:
        if not member and word in _NO_OPERATORS:
            self._say(f"the engine's filters have no operator `{word}`")
        elif called and word not in _WORDS_BEFORE_PARENTHESES:
            helper = not member or self._receiver(at) == "filter"
            if word not in (_FUNCTIONS if helper else _METHODS):
                self._say(f"the engine's filters have no function `{word}`")

    def _field(self, owner: str, at: int) -> tuple[str, int]:
        """`attributes["x"]` and `finding["x"]`, with a point as well: an absent attribute is "", as in betterleaks."""
        opening = self._after(at)
        name_at = self._after(opening)
        name = self._tokens[name_at][1] if name_at < len(self._tokens) else ""
        if self._is(opening, "[") and self._is(self._after(name_at), "]") and self._tokens[name_at][0] == "text":
            end, key = self._after(name_at) + 1, name[1:-1]
        elif self._is(opening, ".") and name_at < len(self._tokens) and self._tokens[name_at][0] == "word":
            end, key = name_at + 1, name
        else:
            return owner, at + 1
        if owner == "finding":
            if key not in _OF_A_FINDING:
                self._say(f"a finding has no `{key}`")
            return f"finding[{quoted(key)}]", end
        return f'(attributes[{quoted(key)}] ?? "")', end

    def _get(self, name: str, opening: int) -> tuple[str, int]:
        arguments, end = self._arguments(opening)
        if len(arguments) not in (2, 3):
            self._say(f"`{name}` takes two or three values")
            return "nil", end
        holder, key = self._range(*arguments[0]).strip(), self._range(*arguments[1]).strip()
        default = self._range(*arguments[2]).strip() if len(arguments) == 3 else "nil"
        if name == "getPath":
            if key[:1] not in "\"'`" or not key:
                self._say("`getPath` takes a path that is written out")
                return "nil", end
            for step in key[1:-1].split("."):
                # Of a list the index counts, of a table the name; of what is absent, neither.
                holder += f"[{step}]" if step.isdecimal() else f"[{quoted(step)}]"
            return f"({holder} ?? {default})", end
        return f"({holder}[{key}] ?? {default})", end

    def _arguments(self, opening: int) -> tuple[list[tuple[int, int]], int]:
        depth, start, arguments = 0, opening + 1, []
        for at in range(opening, len(self._tokens)):
            kind, text = self._tokens[at]
            if kind != "other":
                continue
            depth += (text in "([{") - (text in ")]}")
            if depth == 0 or (depth == 1 and text == ","):
                arguments.append((start, at))
                start = at + 1
            if depth == 0:
                return arguments, at + 1
        self._say("a parenthesis is not closed")
        return [], len(self._tokens)

    def _is(self, at: int, text: str) -> bool:
        return at < len(self._tokens) and self._tokens[at] == ("other", text)

    def _after(self, at: int) -> int:
        at += 1
        while at < len(self._tokens) and self._tokens[at][0] == "space":
            at += 1
        return at

    def _back(self, at: int) -> int:
        at -= 1
        while at >= 0 and self._tokens[at][0] == "space":
            at -= 1
        return at

    def _before(self, at: int) -> str:
        back = self._back(at)
        return self._tokens[back][1] if back >= 0 else ""

    def _receiver(self, at: int) -> str:
        return self._before(self._back(at))
