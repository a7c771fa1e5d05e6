"""RUNBOOK.md and docs/operations.md: complete, links resolve, commands work that need no cluster. `tests/cluster/test_runbook.py` types the rest."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.cluster import test_runbook as in_a_cluster
from tests.conftest import wait_for
from tests.documents.document import OPERATIONS, ROOT, RUNBOOK, Block, anchor, blocks, headings
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
    assert "\n- **Over** when " in text


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


SYMPTOMS = ("Missions hang", "Success rate low", "0 secrets found", "Redis full")


def rows(section: str) -> list[list[str]]:
    """The cells of the table in a section of the runbook, without its head."""
    text = RUNBOOK.read_text().partition(f"\n## {section}\n")[2].partition("\n#")[0]
    return [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]


def test_the_index_has_every_alert_with_its_severity_its_meaning_and_its_section() -> None:
    assert headings(RUNBOOK)[1] == "Index of alerts"
    indexed = [(link, severity) for link, severity, meaning in rows("Index of alerts") if meaning]
    assert sorted(indexed) == sorted(
        (f"[{rule['alert']}](#{anchor(rule['alert'])})", rule["labels"]["severity"]) for rule in rules("alert")
    )


def test_each_symptom_has_a_first_command_a_section_and_panels_that_are_there() -> None:
    assert headings(RUNBOOK)[2:7] == ["Start by symptom", *SYMPTOMS]
    titles = {panel["title"] for panel in panels()}
    for (symptom, command, meaning, link, named), section in zip(rows("Start by symptom"), SYMPTOMS, strict=True):
        assert symptom.lower() == section.lower()
        (block,) = [block for block in TYPED if block.section == section]
        assert command == f"`{block.commands[0].line}`"
        assert meaning
        assert link == f"[{section}](#{anchor(section)})"
        assert set(re.findall('"([^"]+)"', named)) <= titles
        assert '"' in named


def test_every_labelled_command_is_typed() -> None:
    """A line that is no command, or a query in the middle of a sentence that nobody runs, would escape the tests."""
    text = RUNBOOK.read_text() + OPERATIONS.read_text()
    typed = [command.line for block in blocks() for command in block.commands]
    labelled = re.findall(r"^ *(?:-|\d+\.) \*\*(?:Run|Check|Do)\*\*(.*)", text, re.MULTILINE)
    assert len(labelled) > 100
    assert all(line.startswith(" `") and line.split("`")[1] in typed for line in labelled)
    assert set(re.findall(r"`(ask '[^`]+)`", text)) <= set(typed)


def test_what_the_cluster_tests_name_is_there_once() -> None:
    named = [*headings(RUNBOOK)[1:], *headings(OPERATIONS)[1:]]
    assert len(named) == len(set(named))
    known = {*in_a_cluster.TROUBLES, *in_a_cluster.MENDED, *in_a_cluster.NOT_BROUGHT_ABOUT}
    assert known <= set(in_a_cluster.SECTIONS)


@pytest.mark.full
@pytest.mark.timeout(200)
@pytest.mark.parametrize("symptom", SYMPTOMS)
def test_a_symptom_is_explained_within_a_minute(symptom: str, on_call: OnCall) -> None:
    (block,) = [block for block in TYPED if block.section == symptom]
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
