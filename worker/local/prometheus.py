"""A local Prometheus for workers, with the decoder's alerts: `decoder up --watch` starts it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from worker.local.stack import STOP_SECONDS, Child, running

# Only a clone has these files; an installed package does not.
_CLONE = Path(__file__).resolve().parents[2]
TEMPLATE = _CLONE / "docs" / "prometheus.yml"
RULES = _CLONE / "helm" / "decoder" / "files" / "rules.yaml"
# The parts of the template to replace.
_OURS = ("127.0.0.1:9464", "../helm/decoder/files/rules.yaml", "environment: production")


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus, and where it listens."""

    child: Child
    url: str


def lacking() -> str | None:
    """The reason why Prometheus cannot start; None if it can."""
    if shutil.which("prometheus") is None:
        return "not installed: no `prometheus` on PATH; install it (Debian package `prometheus`)"
    if not (TEMPLATE.is_file() and RULES.is_file()):
        return "not started: its rules are only in a clone of the decoder, and this is an installed package"
    return None


@contextmanager
def running_prometheus(folder: Path, targets: Sequence[str]) -> Iterator[Prometheus]:
    """Prometheus on a free port of loopback, for these workers (`HOST:PORT` each); its data is in the folder.

    Raises:
        DecoderError: it did not start.
    """
    text = TEMPLATE.read_text(encoding="utf-8")
    for ours, here in zip(_OURS, (", ".join(targets), str(RULES), "environment: local"), strict=True):
        text = text.replace(ours, here)
    config = folder / "prometheus.yml"
    config.write_text(text, encoding="utf-8")
    command = [
        *(shutil.which("prometheus") or "prometheus", f"--config.file={config}"),
        *(f"--storage.tsdb.path={folder / 'prometheus'}", "--web.listen-address=127.0.0.1:0"),
    ]
    # Prometheus needs nothing else of this environment.
    with running("prometheus", command, folder, {"PATH": os.environ["PATH"]}, STOP_SECONDS) as child:
        address = child.wait_until(r'msg="?Listening on"? address=(127\.0\.0\.1:\d+)')[1]
        child.wait_until("Server is ready to receive")  # until then it answers nothing but 503
        yield Prometheus(child, f"http://{address}")
