"""RUNBOOK.md is complete, and its links and the commands that need no cluster work. The rest runs in `tests/cluster/test_runbook.py`."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.conftest import wait_for
from tests.documents.document import ROOT, RUNBOOK, Block, anchor, blocks, headings
from tests.documents.on_call import OnCall, sections, without_a_cluster
from tests.documents.shell import MISUSE
from tests.drill.stage import Stage
from tests.observability.expressions import panels
from tests.observability.tools import ALERTMANAGER, load, rules
from worker.settings import WorkerSettings

TYPED = [
    block
    for block in blocks()
    if block.language == "sh" and block.tag not in ("yours", "setup") and without_a_cluster(block).commands
]
DOCUMENTS = subprocess.run(
    ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.split()


@pytest.mark.parametrize("alert", [rule["alert"] for rule in rules("alert")])
def test_every_alert_says_how_to_confirm_and_how_to_end_it(alert: str) -> None:
    confirming = [command for block in sections(alert, "confirm") for command in block.commands]
    assert any(command.shows for command in confirming)
    assert [command.line for block in sections(alert, "fix") for command in block.commands]
    text = RUNBOOK.read_text().partition(f"\n### {alert}\n")[2].partition("\n### ")[0]
    assert "Over when" in text


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    document = ROOT / name
    links = re.findall(r"\]\((?!https?://|mailto:)([^)\s]+)\)", document.read_text())
    for link in links:
        path, _, section = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        if section:
            assert section in map(anchor, headings(target)), link


def test_what_is_filled_in_once_is_what_the_alerts_use() -> None:
    table = RUNBOOK.read_text().partition("## Fill in once")[2].partition("## Set up")[0]
    links = {rule["annotations"]["runbook_url"].partition("#")[0] for rule in rules("alert")}
    channels = {
        slack["channel"] for receiver in load(ALERTMANAGER)["receivers"] for slack in receiver.get("slack_configs", ())
    }
    assert len(links) == len(channels) == 1
    assert f"<{links.pop()}>" in table
    assert f"`{channels.pop()}`" in table


def test_what_the_reader_fills_in_are_settings() -> None:
    names = [
        name
        for block in blocks()
        if block.tag == "yours"
        for command in block.commands
        for name in re.findall(r"export (\w+)=", command.line)
    ]
    assert "DECODER_REDIS_URL" in names
    known = {f"DECODER_{field.upper()}" for field in WorkerSettings.model_fields} | {"PROMETHEUS_URL"}
    assert set(names) <= known


def test_the_drill_answers_every_alert_from_here() -> None:
    assert {block.tag for block in blocks()} == {"", "confirm", "fix", "setup", "yours"}
    named = {block.section for block in blocks() if block.tag in ("confirm", "fix")}
    assert named == {rule["alert"] for rule in rules("alert")}


@pytest.fixture(scope="module")
def on_call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnCall]:
    """A healthy stack, and a person on call."""
    folder = tmp_path_factory.mktemp("on-call")
    with Stage(folder) as stage:
        yield OnCall(stage, folder)


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("block", TYPED, ids=lambda block: block.name)
def test_every_command_that_asks_no_cluster_works_on_a_live_stack(block: Block, on_call: OnCall) -> None:
    """The drill runs them during a fault: here they only need to be called correctly."""
    for typed in on_call.type(block):
        assert typed.code not in MISUSE, str(typed)
        if not block.tag:
            assert typed.code == 0, str(typed)


QUESTIONS = ("Missions hang", "0 secrets since noon", "Redis is full")


def test_three_questions_at_night_are_answered_at_the_top_by_panels_that_are_there() -> None:
    assert headings(RUNBOOK)[1:6] == ["What this is", "Three questions at 3 AM", *QUESTIONS]
    table = RUNBOOK.read_text().partition("## Three questions at 3 AM")[2].partition("\n### ")[0]
    titles = {panel["title"] for panel in panels()}
    for question in QUESTIONS:
        (row,) = [line for line in table.splitlines() if line.startswith(f'| "{question}"')]
        named = re.findall('"([^"]+)"', row)[1:]
        assert named
        assert set(named) <= titles


@pytest.mark.full
@pytest.mark.timeout(200)
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_at_night_is_answered_within_a_minute(question: str, on_call: OnCall) -> None:
    (block,) = [block for block in TYPED if block.section == question]
    assert all(command.shows for command in block.commands if not command.line.startswith("reasons"))
    on_call.have_missions_end()

    def answers() -> bool:
        began = time.monotonic()
        typed = on_call.type(block)
        assert time.monotonic() - began < 60
        return not any(one.code or one.missing for one in typed)

    wait_for(answers, seconds=120, what="what the runbook shows")


NOBODY_THERE = ("DecoderNoWorker", "DecoderRedisAway")


def test_where_no_worker_runs_none_is_asked() -> None:
    lines = [
        command.line
        for block in blocks()
        if block.section in NOBODY_THERE
        for command in block.commands
        if "mission" in command.line
    ]
    assert lines
    assert not [line for line in lines if "exec deploy/decoder-worker" in line]
