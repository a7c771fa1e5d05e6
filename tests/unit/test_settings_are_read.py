"""Code reads each setting: a documented and validated variable without effect would mislead users."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from worker.settings import WorkerSettings

ROOT = Path(__file__).resolve().parents[2]
DECLARED = [ROOT / "mission/settings.py", ROOT / "worker/settings.py"]
PRODUCT = [
    path
    for folder in ("mission", "producer", "worker")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path not in DECLARED
]
# Every object with settings has one of these names: `.quota` of another object does not read DECODER_QUOTA.
HOLDERS = ("settings", "_settings")


def reads(trees: Iterable[ast.AST], *holders: str) -> Iterator[str]:
    """The attributes of objects with these names that code reads and uses."""
    for tree in trees:
        idle = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and id(node) not in idle:
                holder = node.value
                name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
                if name in holders:
                    yield node.attr


def unread(fields: Iterable[str], product: Iterable[str], declared: Iterable[str]) -> set[str]:
    """The fields that no code reads, directly or by a property that is read. A read by a validator does not count."""
    used = set(reads(map(ast.parse, product), *HOLDERS))
    properties = [
        node
        for node in ast.walk(ast.parse("\n".join(declared)))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
    ]
    for node in properties:
        if node.name in used:
            used |= set(reads([node], "self"))
    return set(fields) - used


def test_each_setting_is_read_somewhere() -> None:
    texts = [[path.read_text(encoding="utf-8") for path in paths] for paths in (PRODUCT, DECLARED)]
    assert unread(WorkerSettings.model_fields, *texts) == set()


def test_a_setting_that_is_only_declared_checked_or_looked_at_for_nothing_is_found() -> None:
    declared = """
class Settings:
    direct: int
    shown: int
    hidden: int
    checked: int
    idle: int
    stored: int
    of_another: int
    @property
    def rate(self): return self.shown
    @property
    def nobodys(self): return self.hidden
    @model_validator(mode="after")
    def check(self): assert self.checked > 0
"""
    product = """
def work(settings, parts, quota):
    settings.idle
    settings.stored = 1
    return settings.direct + parts.settings.rate + quota.of_another
"""
    fields = ("direct", "shown", "hidden", "checked", "idle", "stored", "of_another")
    assert unread(fields, [product], [declared]) == {"hidden", "checked", "idle", "stored", "of_another"}
