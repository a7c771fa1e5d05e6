"""The table of secrets that `mission reveal`, `decoder run` and `decoder scan` print."""

from __future__ import annotations

from collections.abc import Iterable

from mission.cli.console import emit_records
from mission.model import Secret


def emit_secrets(found: Iterable[tuple[str, Secret]], *, show: bool) -> None:
    """Print secrets, each with its document's name, which may be empty; omit columns that are empty for all of them.

    Values are the last column: in any other, a private key would push the rest off the screen.
    """
    rows = [
        {
            "place": _place(document, secret),
            "detector": secret.detector,
            "category": secret.category,
            "confidence": secret.confidence,
            "encoding": secret.encoding,
            "times": secret.count if secret.count > 1 else "",
            "value": secret.as_dict(show=show)["value"],
        }
        for document, secret in found
    ]
    fields = [name for name in rows[0] if any(row[name] != "" for row in rows)] if rows else []
    emit_records(rows, as_json=False, fields=fields)


def _place(document: str, secret: Secret) -> str:
    """The position as editors and compilers write it; an archive's member follows the archive's name."""
    inside = "!".join(filter(None, (document, secret.path)))
    return f"{inside}:{secret.line}:{secret.column}".removeprefix(":")
