"""The report for other tools: SARIF 2.1.0 (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html)."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote

from mission.model import Confidence, Secret
from mission.version import VERSION
from worker.scan.baseline import FINGERPRINT

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVELS = {Confidence.CERTAIN: "error", Confidence.HIGH: "error", Confidence.MEDIUM: "warning", Confidence.LOW: "note"}


class Sarif:
    """A report that is written during the search: one run, results first, because its rules are known only at the end.

    Use it with `with`. The file appears once it is complete; a failure leaves no partial file.

    Args:
        file: to write; an existing file is overwritten.

    Raises:
        OSError: it cannot be written.
    """

    def __init__(self, file: Path) -> None:
        self._target = Path(os.path.realpath(file))  # the target of a link
        self._part: Path | None = None
        self._rules: dict[str, int] = {}
        self._results = 0
        self._failed = False
        self._pieces = ExitStack()
        self._file = self._open(file)
        head = {"$schema": SCHEMA, "version": "2.1.0"}
        self._file.write(json.dumps(head)[:-1] + ', "runs": [{"columnKind": "unicodeCodePoints", "results": [')

    def _open(self, file: Path) -> IO[str]:
        if file.exists() and not stat.S_ISREG(file.stat().st_mode):  # a pipe, for example, is written directly
            return self._pieces.enter_context(file.open("w", encoding="ascii"))
        try:
            descriptor, name = tempfile.mkstemp(dir=self._target.parent, prefix=f".{self._target.name[:100]}.")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(file)) from None
        self._part = Path(name)
        return self._pieces.enter_context(os.fdopen(descriptor, "w", encoding="ascii"))

    @property
    def files(self) -> list[Path]:
        """The files that the report is written to."""
        return [self._target, *([self._part] if self._part else [])]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._pieces:
                if kind is None:
                    self._file.write("\n]," + json.dumps(self._rest())[1:] + "]}\n")
            if kind is None and self._part:
                self._part.chmod(0o666 & ~_umask())
                self._part.replace(self._target)
        finally:
            if self._part:
                with suppress(FileNotFoundError):
                    self._part.unlink()

    def _rest(self) -> dict[str, Any]:
        rules = [
            {
                "id": rule,
                "shortDescription": {"text": f"A secret found by the rule {rule}"},
                "help": {"text": "Revoke the credential where it was issued, then remove it from the file."},
                "properties": {"tags": ["security", "secret"]},
            }
            for rule in self._rules
        ]
        return {
            "tool": {"driver": {"name": "decoder scan", "version": VERSION, "rules": rules}},
            "invocations": [{"executionSuccessful": not self._failed}],
        }

    def fail(self) -> None:
        """Record that an input could not be read."""
        self._failed = True

    def add(self, location: str, secret: Secret, fingerprint: str) -> None:
        """Add a result, without the value or the line's text."""
        rule = f"{secret.detector}/{secret.category}"
        index = self._rules.setdefault(rule, len(self._rules))
        confidence = Confidence(secret.confidence)
        result = {
            "ruleId": rule,
            "ruleIndex": index,
            "level": _LEVELS[confidence],
            "message": {"text": f"{secret.category}: found by {secret.detector}, confidence {confidence}"},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": _artifact(location, secret.path),
                        "region": {"startLine": secret.line, "startColumn": secret.column},
                    }
                }
            ],
            "partialFingerprints": {FINGERPRINT: fingerprint},
            "properties": {
                "detector": secret.detector,
                "category": secret.category,
                "confidence": confidence,
                "member": secret.path,
                "encoding": secret.encoding,
                "count": secret.count,
            },
        }
        self._file.write((",\n" if self._results else "\n") + json.dumps(result))
        self._results += 1


def _artifact(location: str, member: str) -> dict[str, str]:
    uri = quote(os.fsencode(location), safe="/") if location else "stdin"
    if member:
        # A member may be called `../../x`: such a name becomes a single path segment, so that it cannot lead elsewhere.
        plain = all(part not in ("", ".", "..") for part in member.split("/"))
        uri += "!" + quote(member.encode(errors="surrogatepass"), safe="/!" if plain else "!")
    return {"uri": uri, "uriBaseId": "%SRCROOT%"} if location else {"uri": uri}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
