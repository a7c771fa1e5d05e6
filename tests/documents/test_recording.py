"""docs/decoder-run.svg against the program: what it shows is what `decoder run` prints today."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from ci.recording import COLUMNS, COMMAND, FILE, LINES, Terminal
from mission.model import State

SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 200_000
# Missions of the sample site.
ROWS = 8
# What differs from run to run: the ports, and the bar behind its numbers.
PORT = re.compile(r"127\.0\.0\.1:\d+")
BAR = re.compile(r"^(\d+/8 missions)\b.*")


def frames() -> list[str]:
    """The text of each frame."""
    root = ElementTree.parse(FILE).getroot()
    lines = {f"#{text.get('id')}": _words("".join(text.itertext())) for text in root.iter(f"{SVG}text")}
    return [
        "\n".join(lines[use.get("href", "")] for use in group) for group in root.iter(f"{SVG}g") if _is_frame(group)
    ]


def _is_frame(group: ElementTree.Element) -> bool:
    return len(group) > 0 and all(child.tag == f"{SVG}use" for child in group)


def _words(text: str) -> str:
    """Without what differs, and with no blanks: in the SVG they are positions."""
    return "".join(BAR.sub(r"\1", PORT.sub("127.0.0.1:PORT", text.strip())).split())


def test_it_is_small_and_has_no_script() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    assert not re.search(r"<script|\bon\w+=|url\(|https?://(?!127\.|elsewhere\.invalid|www\.w3\.org/2000/svg\")", text)


@pytest.mark.full
def test_its_frames_show_what_the_command_prints_today() -> None:
    terminal = Terminal(COMMAND, COLUMNS, LINES)
    shown = [terminal.text for _ in terminal.frames()]
    recorded = frames()
    prompt, *last = recorded[-1].splitlines()
    assert prompt == "$decoderrun"
    assert last == [_words(line) for line in shown[-1].splitlines() if line]
    during = [frame.splitlines()[1:] for frame in recorded[:-1] if frame.endswith("missions")]
    documents = "|".join(re.escape(line[line.index("http://") :]) for line in last[1 : 1 + ROWS])
    row = re.compile(rf"({'|'.join(State)})\d+.*({documents})")
    assert during
    for header, *rows, bar in during:
        assert header == last[0]
        assert len(rows) == ROWS
        assert [line for line in rows if not row.fullmatch(line)] == []
        assert re.fullmatch(rf"\d/{ROWS}missions", bar)
    assert {"queued", "running"} <= {row.fullmatch(line)[1] for _, *rows, _ in during for line in rows}  # type: ignore[index]  # each matched
