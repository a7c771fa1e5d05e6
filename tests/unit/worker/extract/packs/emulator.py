"""A small emulator of gitleaks and betterleaks: a rule's findings in a text without a path, by Python's `re`; and texts that match.

It follows gitleaks' detect.go: the keyword gate, the first non-empty group, entropy, allowlists. Of betterleaks' filters it supports
lists of terms. It skips rules with a path, and filters with variables.
"""

from __future__ import annotations

import math
import random
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cache, partial
from itertools import product
from re import _constants as op  # type: ignore[attr-defined]  # Python's own regex parser: to generate matching texts
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

Table = dict[str, Any]


def _folded(after: str) -> str:
    """The text after `(?i)`: each alternative up to the end of its group becomes its own `(?i:…)`."""
    alternatives, start, depth, in_class = [], 0, 0, False
    characters = enumerate(after)
    for at, character in characters:
        if character == "\\":
            next(characters)
        elif in_class:
            in_class = character != "]" or after[at - 1] == "[" or after[at - 2 : at] == "[^"
        elif character == "[":
            in_class = True
        elif depth == 0 and character in "|)":
            alternatives.append(after[start:at])
            start = at + 1
            if character == ")":
                return "|".join(f"(?i:{each})" for each in alternatives) + after[at:]
        else:
            depth += {"(": 1, ")": -1}.get(character, 0)
    return "|".join(f"(?i:{each})" for each in [*alternatives, after[start:]])


@cache
def compiled(regex: str) -> re.Pattern[str] | None:
    """A Go regex compiled in Python; None if Python does not support it."""
    regex = regex.replace(r"\z", r"\Z").replace("[[:alnum:]]", "[0-9A-Za-z]").replace("[:alnum:]", "0-9A-Za-z")
    while at := re.search(r"(?<!\\)\(\?i\)", regex):
        before, after = regex[: at.start()], regex[at.end() :]
        regex = before + _folded(after)
    regex = re.sub(r"(?<!\\)\$(?=$|[|)])", r"\\Z", regex)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return re.compile(regex, re.ASCII)
    except (re.error, Warning):
        return None


def entropy(secret: str) -> float:
    return -sum(n / len(secret) * math.log2(n / len(secret)) for n in Counter(secret).values())


@dataclass(frozen=True, slots=True)
class Finding:
    """A regex match: the whole match, the secret in it, and the lines that contain it."""

    secret: str
    match: str
    line: str


Discards = Callable[[Finding], bool]


class Emulator:
    """The rules of a file that Python supports, each by itself. It ignores `required` and `skipReport`."""

    def __init__(self, config: Table) -> None:
        everywhere = [*_discards(config)]
        self._allowed: dict[str, list[re.Pattern[str]]] = {}
        self.rules: dict[str, tuple[Table, re.Pattern[str], list[tuple[str, Discards]]]] = {}
        for rule in config["rules"]:
            regex = compiled(rule["regex"]) if "regex" in rule and "path" not in rule else None
            if regex and "let " not in rule.get("filter", ""):
                self.rules[rule["id"]] = rule, regex, [*_discards(rule), *everywhere]
                self._allowed[rule["id"]] = [*_allowed(rule), *_allowed(config)]

    def scan(self, text: str, name: str, without: str = "") -> set[str]:
        """The secrets that a rule finds, optionally `without` its keywords, entropy or allowlists."""
        rule, regex, discards = self.rules[name]
        words = [] if without == "keywords" else rule["keywords"]
        if words and not any(word.lower() in text.lower() for word in words):
            return set()
        found = set()
        for match in regex.finditer(text):
            group = rule.get("secretGroup") or next(
                (number for number, each in enumerate(match.groups(), 1) if each), 0
            )
            line = text[text.rfind("\n", 0, match.start()) + 1 : (text + "\n").index("\n", match.end())]
            finding = Finding(match[group], match[0], line)
            if not any(discard(finding) for term, discard in discards if term != without):
                found.add(finding.secret)
        return found

    def documents(self, name: str) -> Iterator[str]:
        """Texts that a rule's regex matches, and variants with allowlisted words in place of, inside or next to the secret."""
        _rule, regex, _discards = self.rules[name]
        for seed, draw in product(range(6), DRAWS):
            text = Texts(seed, draw).of(regex)
            yield text
            match = regex.search(text)
            secret = next(filter(None, match.groups()), match[0]) if match and draw == "any" else ""
            for allowed in self._allowed[name] if secret else []:
                word = Texts(seed).of(allowed)
                for changed in (
                    word,
                    word + secret[len(word) :],
                    secret[: -len(word)] + word,
                    secret + word,
                    word + secret,
                ):
                    yield text.replace(secret, changed)


def _allowed(table: Table) -> Iterator[re.Pattern[str]]:
    """Regexes for the texts that a table's allowlists name."""
    lists = [*table.get("allowlists", []), *filter(None, [table.get("allowlist")])]
    named = [word for each in lists for word in (*each.get("regexes", []), *map(re.escape, each.get("stopwords", [])))]
    for word in [*named[:20], *re.findall(r"[`\"]([^`\"]{8,})[`\"]", table.get("filter", ""))]:
        if regex := compiled(word):
            yield regex


def _discards(table: Table) -> Iterator[tuple[str, Discards]]:
    """Functions that discard a finding, each with its kind: entropy or allowlist."""
    if threshold := table.get("entropy"):
        yield "entropy", lambda finding: entropy(finding.secret) <= threshold
    for allowlist in [*table.get("allowlists", []), *filter(None, [table.get("allowlist")])]:
        yield "allowlist", partial(_allows, allowlist)
    # betterleaks' filters: terms joined with `||`. Terms about a path are left out, because there is none.
    texts: list[str] = []

    def held(text: re.Match[str]) -> str:
        texts.append(text[0][1:-1])
        return f"texts[{len(texts) - 1}]"

    read = re.sub(r"`[^`]*`|\"[^\"]*\"", held, table.get("filter", "")).replace("filter.", "").replace("!", " not ")
    for term in read.split("||") if "entropy" in read or "attributes" in read else [read.replace("||", " or ")]:
        if term.strip() and "attributes" not in term:
            yield "entropy" if "entropy" in term else "allowlist", partial(_filters, " ".join(term.split()), texts)


def _filters(term: str, texts: list[str], finding: Finding) -> bool:
    words = {"texts": texts, "entropy": entropy, "matchesAny": _matches, "containsAny": _contains}
    return bool(eval(term, words | {"finding": asdict(finding)}))


def _matches(target: str, regexes: list[str]) -> bool:
    return any((regex := compiled(each)) and regex.search(target) for each in regexes)


def _contains(target: str, words: list[str]) -> bool:
    return any(word.lower() in target.lower() for word in words)


def _allows(allowlist: Table, finding: Finding) -> bool:
    checks = [False] if "paths" in allowlist else []  # there is no path
    if "regexes" in allowlist:
        checks.append(_matches(getattr(finding, allowlist.get("regexTarget", "secret")), allowlist["regexes"]))
    if "stopwords" in allowlist:
        checks.append(_contains(finding.secret, allowlist["stopwords"]))
    return all(checks) if allowlist.get("condition", "").upper() == "AND" else any(checks)


# Which of a position's possible characters to draw from: never only one, because the engine ignores secrets without entropy.
DRAWS: dict[str, Callable[[str], str]] = {
    "any": str,
    "dull": lambda characters: characters[:2],
    "letters": lambda characters: "".join(filter(str.isalpha, characters)),
    "digits": lambda characters: "".join(filter(str.isdigit, characters)),
}


_ANY = "abcdeXYZ0123 =:"


class Texts:
    """Generates texts that a regex matches, from its own parts."""

    def __init__(self, seed: int, draw: str = "any") -> None:
        self._random = random.Random(seed)
        self._draw = DRAWS[draw]

    def of(self, regex: re.Pattern[str]) -> str:
        return self._sequence(parser.parse(regex.pattern, regex.flags))

    def _sequence(self, tokens: Any) -> str:
        return "".join(self._one(code, value) for code, value in tokens)

    def _one(self, code: Any, value: Any) -> str:
        if code is op.LITERAL:
            return chr(value)
        if code is op.NOT_LITERAL:
            return "x" if value != ord("x") else "y"
        if code is op.ANY:
            return self._pick(_ANY)
        if code is op.IN:
            return self._pick(_class(tuple(value)))
        if code is op.BRANCH:
            return self._sequence(self._random.choice(value[1]))
        if code is op.SUBPATTERN:
            return self._sequence(value[-1])
        if code in (op.MAX_REPEAT, op.MIN_REPEAT):
            low, high, inner = value
            return "".join(self._sequence(inner) for _ in range(self._random.randint(low, min(int(high), low + 6))))
        assert code is op.AT, code  # an anchor: it matches no characters
        return ""

    def _pick(self, characters: str) -> str:
        return self._random.choice(self._draw(characters) or characters)


@cache
def _class(items: tuple[tuple[Any, Any], ...]) -> str:
    """The characters of a regex class; only its letters and digits, if it has any."""
    every = [chr(number) for number in (9, 10, *range(32, 127))]
    chosen = [character for character in every if any(_holds(item, character) for item in items)]
    if items[0][0] is op.NEGATE:
        chosen = [character for character in every if character not in set(chosen)]
    plain = [character for character in chosen if character.isalnum()]
    return _ANY if chosen == every else "".join(plain or chosen)


def _holds(item: tuple[Any, Any], character: str) -> bool:
    code, value = item
    if code is op.LITERAL:
        return bool(ord(character) == value)
    if code is op.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    if code is op.CATEGORY:
        classes = {op.CATEGORY_DIGIT: r"\d", op.CATEGORY_SPACE: r"\s", op.CATEGORY_WORD: r"\w"}
        negated = {op.CATEGORY_NOT_DIGIT: r"\D", op.CATEGORY_NOT_SPACE: r"\S", op.CATEGORY_NOT_WORD: r"\W"}
        return re.match((classes | negated)[value], character, re.ASCII) is not None
    return False
