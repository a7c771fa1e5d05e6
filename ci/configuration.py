"""Write the table of settings into docs/configuration.md, between its two marks, from the settings classes.

Run `python -m ci.configuration`; a test fails if the table is out of date.
"""

from __future__ import annotations

from pathlib import Path

from mission.settings import PREFIX, Settings
from worker.settings import WorkerSettings

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "configuration.md"
BEGIN, END = "<!-- settings: made by `python -m ci.configuration` -->", "<!-- end of settings -->"

_ADMISSION = "producer, worker"  # a worker also admits: missions from the decoder.submit task
# Users of the shared settings that not everybody uses.
_SIDES = {
    "redis_replicas": _ADMISSION,
    "url_key": _ADMISSION,
    "queue_limit": _ADMISSION,
    "quota": _ADMISSION,
    "stored_quota": _ADMISSION,
    "max_age": _ADMISSION,
    "ledger_ttl": "worker",
    "audit_ttl": "auditor",
    "identity_file": "reader",
}


def table() -> str:
    """The settings as a Markdown table: variable, default with its unit, accepted values, users."""
    rows = []
    for row in WorkerSettings.defaults():
        name = row["variable"].removeprefix(PREFIX).lower()
        side = _SIDES.get(name, "all") if name in Settings.model_fields else "worker"
        default = f"`{row['value']}`" if row["value"] else ""
        takes = row["takes"].replace("|", r"\|")
        rows.append(f"| `{row['variable']}` | {default} | {takes} | {side} |")
    return "\n".join(["| variable | default | takes | used by |", "|---|---|---|---|", *rows])


def with_table(document: str) -> str:
    """The document with the table between its two marks regenerated."""
    return with_block(document, BEGIN, END, table())


def with_block(document: str, begin: str, end: str, block: str) -> str:
    """The text with the block between its two marks replaced; each mark occurs once."""
    before, _, rest = document.partition(begin)
    return f"{before}{begin}\n{block}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    """Write the document."""
    DOCUMENT.write_text(with_table(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
