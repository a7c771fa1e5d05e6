"""Every test, file, setting and command that SECURITY.md names exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import click
import pytest

from mission.store.acl import LOGINS
from producer.cli import main as mission_command
from tests.security.test_acl import TABLE
from worker.cli import main as decoder_command
from worker.observe.metrics import REGISTRY
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL))
NODES = sorted({span for span in SPANS if span.startswith("tests/")})
assert NODES, "no test is named: the parametrised test below would hold nothing"


@cache
def _tests_of(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def _rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without the header row."""
    after = TEXT.split(f"{heading}\n", 1)[1]
    lines = after[after.index("\n|") + 1 :].split("\n\n", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("node", NODES)
def test_a_test_that_is_named_is_there(node: str) -> None:
    file, _, name = node.partition("::")
    assert (ROOT / file).is_file()
    assert not name or name in _tests_of(ROOT / file)


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", TEXT)
    anchors = {
        "#" + re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    }
    assert links
    files = {link: ROOT / link.partition("#")[0] for link in links if not link.startswith("#")}
    assert not [link for link in links if not (files[link].exists() if link in files else link in anchors)]


def test_every_setting_that_is_named_is_one() -> None:
    known = {f"DECODER_{name.upper()}" for name in WorkerSettings.model_fields}
    named = set(re.findall(r"DECODER_[A-Z_]+", TEXT))
    assert named
    assert not named - known


def test_every_metric_that_is_named_is_one() -> None:
    known = {metric.name for metric in REGISTRY.collect()}
    named = {span.removesuffix("_total") for span in SPANS if re.fullmatch(r"decoder_\w+", span)}
    assert named
    assert not named - known


@pytest.mark.parametrize("span", sorted({s for s in SPANS if re.match(r"(decoder|mission) [a-z]", s)}))
def test_every_command_that_is_named_is_one(span: str) -> None:
    words = span.split()
    command: click.Command | None = {"decoder": decoder_command, "mission": mission_command}[words.pop(0)]
    while words and isinstance(command, click.Group):
        _, command, words = command.resolve_command(click.Context(command), words)
    assert command
    known = {option for parameter in command.params for option in parameter.opts}
    assert not {word for word in words if word.startswith("-")} - known


def test_the_table_of_access_is_the_one_that_is_tried() -> None:
    rows = dict(_rows("## Access control"))
    assert rows
    for what, who in rows.items():
        _, logins = TABLE[what]
        assert set(re.findall(r"\w+", who)) == set(logins.split() or ["nobody"]), what


def test_it_says_what_a_stolen_login_of_each_kind_can_do() -> None:
    assert [login for login, _ in _rows("### What a stolen login can still do")] == list(LOGINS)


@pytest.mark.parametrize("point", _rows("## Compliance checklist"), ids=lambda row: row[0])
def test_each_point_of_the_checklist_names_what_shows_it(point: list[str]) -> None:
    assert "tests/" in point[1] or "](#" in point[1]


def test_it_names_no_place_of_one_machine() -> None:
    assert not re.search(r"(?<!\w)/(work|home|root|tmp)/", TEXT)
