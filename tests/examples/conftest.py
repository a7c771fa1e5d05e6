"""Running the examples as a person would: each a process, against the real pieces."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mission.seal.key_files import write_key_file
from tests.integration.conftest import Keys, keys, mission_client, producer_settings, reader, site, start_worker
from tests.processes import started
from worker.settings import WorkerSettings

__all__ = ["keys", "mission_client", "producer_settings", "reader", "site", "start_worker"]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NOWHERE = "redis://127.0.0.1:1/0"


@dataclass(slots=True)
class Examples:
    """Runs examples in a folder, with an environment of nothing but what they are set to."""

    folder: Path
    env: dict[str, str] = field(repr=False)

    def _with(self, env: Mapping[str, str]) -> dict[str, str]:
        """The environment with these changes; what is empty is not set."""
        return {name: value for name, value in (self.env | dict(env)).items() if value}

    def run(self, name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self._with(env), capture_output=True, text=True, timeout=100, check=False
        )

    @contextmanager
    def start(self, name: str, *arguments: str, **env: str) -> Iterator[subprocess.Popen[str]]:
        """Start one; killed at the end where it still runs."""
        options: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, str(EXAMPLES / name), *arguments]
        with started(command, cwd=self.folder, env=self._with(env), **options) as process:
            yield process


@pytest.fixture
def examples(settings: WorkerSettings, keys: Keys, tmp_path: Path) -> Examples:
    """Examples set to the empty ledger, with a producer's and a reader's keys."""
    folder = tmp_path / "examples"
    folder.mkdir()
    write_key_file(tmp_path / "reader.key", keys.identity.line)
    url = settings.redis_url.get_secret_value()
    reader = f"export DECODER_REDIS_URL={url}\nexport DECODER_IDENTITY_FILE='{tmp_path}/reader.key'\nexport PATH=/nowhere:$PATH\n"
    (tmp_path / "reader.env").write_text(reader)
    tree = {"PATH": os.defpath, "PYTHONPATH": str(EXAMPLES.parent)}
    env = tree | {"DECODER_REDIS_URL": url, "DECODER_URL_KEY": keys.url_key, "REDIS_URL": url}
    return Examples(folder, env | {"DECODER_IDENTITY_FILE": str(tmp_path / "reader.key")})
