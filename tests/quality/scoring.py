"""The findings of extraction in the labelled documents, compared with the labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tests.quality.corpus import Document


@dataclass(frozen=True, slots=True)
class Found:
    """One finding: its line, from 1, the detector and rule, and the value."""

    line: int
    rule: str
    value: str


@dataclass(slots=True)
class Score:
    """Counts over documents; `missed` and `false` name each as document, line, kind or rule, value."""

    true: int = 0
    missed: list[tuple[str, int, str, str]] = field(default_factory=list)
    false: list[tuple[str, int, str, str]] = field(default_factory=list)
    found_by_kind: Counter[str] = field(default_factory=Counter)
    all_by_kind: Counter[str] = field(default_factory=Counter)

    @property
    def precision(self) -> float:
        """The share of the findings that are credentials."""
        return self.true / ((self.true + len(self.false)) or 1)

    @property
    def recall(self) -> float:
        """The share of the credentials that were found."""
        return self.true / ((self.true + len(self.missed)) or 1)

    @property
    def f1(self) -> float:
        """Their harmonic mean."""
        return 2 * self.precision * self.recall / ((self.precision + self.recall) or 1)


def score(documents: Iterable[Document], scan: Callable[[str], Iterable[Found]]) -> Score:
    """A label counts as found if a finding on its line contains its value, or is a part of it with at least six characters."""
    total = Score()
    for document in documents:
        found = list(scan(document.text))
        used: set[Found] = set()
        for label in document.labels:
            total.all_by_kind[label.kind] += 1
            hits = [one for one in found if _same(label.value, one.value) and abs(one.line - label.line) <= 1]
            used.update(hits)
            if hits:
                total.true += 1
                total.found_by_kind[label.kind] += 1
            else:
                total.missed.append((document.name, label.line, label.kind, label.value))
        places = {(one.line, one.value): one for one in found if one not in used}
        total.false += [(document.name, one.line, one.rule, one.value) for one in places.values()]
    return total


def _same(label: str, value: str) -> bool:
    return label in value or (value in label and len(value) >= 6)


def table(scores: dict[str, Score]) -> str:
    """Precision, recall and F1 of each set, the recall of each kind, then the false ones."""
    lines = [f"{'set':<10} {'true':>5} {'false':>5} {'missed':>6} {'precision':>9} {'recall':>6} {'F1':>5}"]
    for name, one in scores.items():
        lines.append(
            f"{name:<10} {one.true:>5} {len(one.false):>5} {len(one.missed):>6} {one.precision:>9.3f} {one.recall:>6.3f} {one.f1:>5.3f}"
        )
    for name, one in scores.items():
        kinds = ", ".join(
            f"{kind} {one.found_by_kind[kind]}/{count}" for kind, count in sorted(one.all_by_kind.items())
        )
        lines += ["", f"{name}, found of each kind: {kinds}", f"{name}, false:"]
        lines += [f"  {where}:{line} {rule}: {value}" for where, line, rule, value in one.false]
    return "\n".join(lines)
