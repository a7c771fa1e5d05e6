"""SECURITY.md and its pages: every claim, file, setting, metric and command that they name exists, and every claim has tests."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from ci import evidence
from mission.store.acl import LOGINS
from producer.cli import main as mission_command
from tests.security.test_acl import TABLE
from worker.cli import main as decoder_command
from worker.observe.metrics import REGISTRY
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
NAMES = ("threat-model", "encryption", "redis-users", "audit", "compliance")
PAGES = {
    file: (ROOT / file).read_text(encoding="utf-8") for file in ("SECURITY.md", *(f"docs/{name}.md" for name in NAMES))
}
TEXT = "\n".join(PAGES.values())
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL))
CLAIMS = {claim.id: claim for claim in evidence.read()}


def _tables(text: str) -> list[list[list[str]]]:
    """The tables of a text, each with its head and without the line below that."""
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    tables = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()] for block in blocks
    ]
    return [[table[0], *table[2:]] for table in tables]


def _rows(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    return _tables(TEXT.split(f"\n{heading}\n", 1)[1])[0][1:]


def _with_evidence() -> list[list[str]]:
    return [row for table in _tables(TEXT) if table[0][-1] == "evidence" for row in table[1:]]


@pytest.mark.parametrize("row", _with_evidence(), ids=lambda row: row[1][:40])
def test_each_row_with_evidence_names_claims_that_have_tests(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[-1])
    assert named
    assert all(CLAIMS[id_].tests for id_ in named)


def test_the_promises_and_the_checklist_name_their_evidence() -> None:
    for heading in ("## What the decoder promises", "## Checklist"):
        assert len(_rows(heading)) == 7
        assert all(row in _with_evidence() for row in _rows(heading))


def test_no_page_names_a_test() -> None:
    assert not [span for span in SPANS if span.startswith("tests/")]


def test_security_md_is_short() -> None:
    assert len(PAGES["SECURITY.md"].splitlines()) <= 200


def _anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", PAGES[page])
    assert links
    for link in links:
        file, _, anchor = link.partition("#")
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target.read_text(encoding="utf-8")), link


def test_every_page_is_linked_from_security_md() -> None:
    assert not [page for page in (*PAGES, "docs/evidence.md") if page != "SECURITY.md" and f"]({page})" not in TEXT]


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
    assert [login for login, _ in _rows("## Stolen logins")] == list(LOGINS)


def test_it_names_no_place_of_one_machine() -> None:
    assert not re.search(r"(?<!\w)/(work|home|root|tmp)/", TEXT)
