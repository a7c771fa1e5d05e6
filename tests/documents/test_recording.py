"""docs/decoder-run.svg against the program: what it shows is what `decoder run` prints today."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from ci.recording import COLUMNS, COMMAND, FILE, LINES, Terminal

SVG = "{http://www.w3.org/2000/svg}"
MOST_BYTES = 200_000
# What differs from run to run: the ports, and how far it was when somebody looked.
PORT = re.compile(r"127\.0\.0\.1:\d+")
BAR = re.compile(r"^(\d+/8 missions) .*")


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
    header = last[0]
    during = [frame.splitlines()[1:] for frame in recorded[1:-1]]
    assert during
    ours = {_words(line) for text in shown for line in text.splitlines()}
    for frame in during:
        assert frame[0] == header
        assert {line for line in frame if "missions" not in line} <= ours
    assert {"queued", "running"} <= {
        match[0] for frame in during for match in re.finditer("queued|running", str(frame))
    }
