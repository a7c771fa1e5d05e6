"""Writes the table of values into the chart's README, from the comments in its values.yaml.

`python -m ci.chart_readme`; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

CHART = Path(__file__).resolve().parents[1] / "helm" / "decoder"
_BEGIN, _END = "<!-- values: made by `python -m ci.chart_readme` -->", "<!-- end of values -->"
_KEY = re.compile(r"( *)([\w-]+):(?: (.*))?")


def documented(values_yaml: str) -> Iterator[tuple[str, str, str]]:
    """Path, default and documentation of each value that has a `# --` comment above it.

    A default that is a mapping in block style is shown as empty: its own keys are what counts.
    """
    path: list[tuple[int, str]] = []
    comment = ""
    for line in values_yaml.splitlines():
        stripped = line.strip()
        if stripped.startswith("# -- "):
            comment = stripped.removeprefix("# -- ")
        elif match := _KEY.fullmatch(line):
            indent = len(match[1])
            path = [item for item in path if item[0] < indent] + [(indent, match[2])]
            if comment:
                yield ".".join(name for _, name in path), match[3] or "", comment
            comment = ""


def with_table(readme: str, values_yaml: str) -> str:
    """The README with the table made anew between its two marks."""
    rows = [f"| `{path}` | `{default}` | {text} |" for path, default, text in documented(values_yaml)]
    table = "\n".join([_BEGIN, "| value | default | |", "|---|---|---|", *rows, _END])
    before, _, rest = readme.partition(_BEGIN)
    return before + table + rest.partition(_END)[2]


def main() -> None:
    """Write the README."""
    readme = CHART / "README.md"
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), values), encoding="utf-8")


if __name__ == "__main__":
    main()
