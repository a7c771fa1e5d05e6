"""gitleaks in small: what its rules find in a text without a path, by Python's `re`; and texts that a regex matches.

Written after gitleaks' detect.go: the keyword gate, the first group that holds something, entropy, allowlists. Regexes that Python does
not take (flags in the middle of a group, Go's classes) have no rule here.
"""

from __future__ import annotations

import math
import random
import re
import warnings
from collections import Counter
from re import _constants as op  # type: ignore[attr-defined]  # Python's own reading of a regex: to make texts that it matches
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

Table = dict[str, Any]


def _folded(after: str) -> str:
    """What stands after `(?i)`: each alternative up to the end of its group becomes a `(?i:…)` of its own."""
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


def compiled(regex: str) -> re.Pattern[str] | None:
    """A regex of Go's in Python, or None."""
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


class Emulator:
    """The rules of a gitleaks file that Python takes."""

    def __init__(self, config: Table) -> None:
        self._everywhere = [config["allowlist"]] if "allowlist" in config else config.get("allowlists", [])
        self.rules: dict[str, tuple[Table, re.Pattern[str]]] = {}
        for rule in config["rules"]:
            lists = [*rule.get("allowlists", []), *self._everywhere]
            regexes = [regex for each in lists for regex in each.get("regexes", [])]
            regex = compiled(rule["regex"]) if "regex" in rule and "path" not in rule else None
            if regex is not None and all(compiled(each) for each in regexes):
                self.rules[rule["id"]] = rule, regex

    def scan(self, text: str) -> set[tuple[str, str]]:
        lowered = text.lower()
        found = set()
        for name, (rule, regex) in self.rules.items():
            keywords = rule.get("keywords", [])
            if keywords and not any(word.lower() in lowered for word in keywords):
                continue
            for match in regex.finditer(text):
                secret = self._secret(rule, regex, match)
                line = text[text.rfind("\n", 0, match.start()) + 1 : (text + "\n").index("\n", match.end())]
                if rule.get("entropy") and entropy(secret) <= rule["entropy"]:
                    continue
                allowlists = [*self._everywhere, *rule.get("allowlists", [])]
                if not any(self._allows(each, secret, match.group(), line) for each in allowlists):
                    found.add((name, secret))
        return found

    def _secret(self, rule: Table, regex: re.Pattern[str], match: re.Match[str]) -> str:
        if rule.get("secretGroup"):
            return match[rule["secretGroup"]]
        return next((group for group in match.groups() if group), match.group())

    def _allows(self, allowlist: Table, secret: str, match: str, line: str) -> bool:
        target = {"match": match, "line": line}.get(allowlist.get("regexTarget", ""), secret)
        checks = []
        if allowlist.get("paths"):
            checks.append(False)
        if regexes := allowlist.get("regexes"):
            checks.append(any((found := compiled(each)) and found.search(target) for each in regexes))
        if stopwords := allowlist.get("stopwords"):
            checks.append(any(word.lower() in secret.lower() for word in stopwords))
        return all(checks) if allowlist.get("condition", "").upper() == "AND" else any(checks)


class Texts:
    """Texts that a regex matches, made of its own parts."""

    def __init__(self, seed: int, *, dull: bool = False) -> None:
        self._random = random.Random(seed)
        self._dull = dull

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
            return self._pick("abcdefghkmnpqrstuvwxyzABCDEFGHKMNPQRSTUVWXYZ0123456789")
        if code is op.IN:
            return self._in(value)
        if code is op.BRANCH:
            return self._sequence(self._random.choice(value[1]))
        if code is op.SUBPATTERN:
            return self._sequence(value[-1])
        if code in (op.MAX_REPEAT, op.MIN_REPEAT):
            low, high, inner = value
            return "".join(self._sequence(inner) for _ in range(self._random.randint(low, min(int(high), low + 6))))
        assert code is op.AT, code  # a place: nothing stands there
        return ""

    def _in(self, items: Any) -> str:
        every = [chr(number) for number in (9, 10, *range(32, 127))]
        chosen = [character for character in every if any(self._holds(item, character) for item in items)]
        if items and items[0][0] is op.NEGATE:
            chosen = [character for character in every if character not in set(chosen)]
        plain = [character for character in chosen if character.isalnum()]
        return self._pick("".join(plain or chosen))

    def _holds(self, item: Any, character: str) -> bool:
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

    def _pick(self, characters: str) -> str:
        # Never one character alone: the engine passes over what has no entropy at all, whatever a rule asks.
        return self._random.choice(characters[:2] if self._dull else characters)
