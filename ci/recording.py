"""Record `decoder run` in a pseudo-terminal as an animated SVG: `python -m ci.recording [FILE]`.

The SVG has no script. Each line of text is in it once; each frame refers to its lines; a CSS animation steps through the
frames. A viewer without animations shows the last one, the final table.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from xml.sax.saxutils import escape

import pyte

FILE = Path(__file__).resolve().parents[1] / "docs" / "decoder-run.svg"
COMMAND = (sys.executable, "-m", "worker", "run")
COLUMNS, LINES = 104, 29
# Seconds: frames in quicker succession become one; how long the last one stays before the animation begins again.
SHORTEST, LAST = 0.1, 10.0
# In pixels: a character, the distance of two lines, the margin.
CHARACTER, LINE, MARGIN = 8.4, 18, 16
# `pyte`'s names; it gives other colours in hexadecimal.
COLOURS = {"red": "#ff7b72", "green": "#7ee787", "brown": "#e3b341", "blue": "#79c0ff", "magenta": "#d2a8ff",
           "cyan": "#76e3ea", "white": "#f0f6fc", "brightblack": "#8b949e", "default": "#e6edf3"}  # fmt: skip
PAGE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" xml:space="preserve">
<title>decoder run</title>
<style>
text {{ font: 14px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: {colour}; white-space: pre; }}
.film {{ transform: translateY(-{end}px); animation: film {seconds:.1f}s steps(1, end) infinite; }}
@keyframes film {{ {steps} }}
@media (prefers-reduced-motion: reduce) {{ .film {{ animation: none; }} }}
</style>
<defs>
{lines}
</defs>
<rect width="100%" height="100%" rx="8" fill="#161b22"/>
<svg {inner}><g class="film">
{frames}
</g></svg>
</svg>
"""

# The screen's lines as SVG; a blank line is empty.
Frame = tuple[str, ...]


class Terminal:
    """A command in a pseudo-terminal of this size, and its screen; `env` are additional variables."""

    def __init__(self, command: Sequence[str], columns: int, lines: int, **env: str) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(self._ours, (lines, columns))
        # The shell opens the terminal first in its session, so that Ctrl-C reaches the command.
        shell = ["sh", "-c", 'exec "$@" <"$TTY" >"$TTY" 2>&1', "sh", *command]
        size = {
            "COLUMNS": str(columns),
            "LINES": str(lines),
        }  # variables of the environment would win over the terminal's size
        env = os.environ | {"TERM": "xterm-256color", "TTY": os.ttyname(theirs)} | size | env
        self.process = subprocess.Popen(shell, env=env, start_new_session=True, stdin=theirs)  # noqa: S603 (ours)
        os.close(theirs)

    @property
    def text(self) -> str:
        """The screen's text, without trailing blanks in lines and blank lines at the bottom."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def type(self, keys: bytes) -> None:
        """Press keys: b"\\x03" is Ctrl-C."""
        os.write(self._ours, keys)

    def frames(self) -> Iterator[float]:
        """Yield the seconds since the start at each change of the screen, until the command ends."""
        start, stream = time.monotonic(), pyte.ByteStream(self.screen)
        try:
            with suppress(OSError):  # EIO: the other side is closed
                while data := os.read(self._ours, 65536):
                    stream.feed(data)
                    yield time.monotonic() - start
        finally:
            os.close(self._ours)
            self.process.wait()


def frame(screen: pyte.Screen) -> Frame:
    """The screen's current content."""
    return tuple(_line([screen.buffer[row][column] for column in range(screen.columns)]) for row in range(screen.lines))


def _line(cells: Sequence[pyte.screens.Char]) -> str:
    """A line as SVG. Text of one look is a span with its own position, so that no font shifts the columns."""
    spans, column = "", 0
    for (colour, bold), some in groupby(cells, lambda cell: (cell.fg, cell.bold)):
        text = "".join(cell.data for cell in some)
        if shown := text.rstrip():
            look = f'x="{column * CHARACTER:.1f}" textLength="{len(shown) * CHARACTER:.1f}"'
            look += f' fill="{COLOURS.get(colour, f"#{colour}")}"' if colour != "default" else ""
            look += ' font-weight="bold"' if bold else ""
            spans += f"<tspan {look}>{escape(shown)}</tspan>"
        column += len(text)
    return spans


def svg(film: Sequence[tuple[float, Frame]]) -> str:
    """The SVG of frames and the seconds at which each appears."""
    numbers = {line: number for number, line in enumerate(dict.fromkeys(line for _, lines in film for line in lines))}
    total, height, width = film[-1][0] + LAST, LINES * LINE, round(COLUMNS * CHARACTER)
    frames, steps = [], []
    for place, (at, lines) in enumerate(film):
        tops = {place * height + row * LINE - 4: line for row, line in enumerate(lines, 1) if line}
        uses = "".join(f'<use href="#l{numbers[line]}" y="{top}"/>' for top, line in tops.items())
        frames.append(f"<g>{uses}</g>")
        steps.append(f"{100 * at / total:.2f}% {{ transform: translateY(-{place * height}px); }}")
    return PAGE.format(
        width=width + 2 * MARGIN,
        height=height + 2 * MARGIN,
        inner=f'x="{MARGIN}" y="{MARGIN}" width="{width}" height="{height}"',
        colour=COLOURS["default"],
        end=(len(film) - 1) * height,
        seconds=total,
        steps=" ".join(steps),
        lines="\n".join(f'<text id="l{number}">{line}</text>' for line, number in numbers.items()),
        frames="\n".join(frames),
    )


def record() -> str:
    """Run the command, and return the SVG of its screens."""
    terminal = Terminal(COMMAND, COLUMNS, LINES)
    pyte.Stream(terminal.screen).feed("$ decoder run\r\n")
    film = [(0.0, frame(terminal.screen))]
    for seconds in terminal.frames():
        if (now := frame(terminal.screen)) != film[-1][1]:
            if seconds - film[-1][0] < SHORTEST and len(film) > 1:
                seconds, _ = film.pop()
            film.append((seconds, now))
    if code := terminal.process.returncode:
        raise subprocess.CalledProcessError(code, COMMAND, terminal.text)
    return svg(film)


if __name__ == "__main__":
    Path(sys.argv[1] if sys.argv[1:] else FILE).write_text(record(), encoding="utf-8")
