"""External programs that these tests run, and the files that they check."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import unavailable

FILES = Path(__file__).parents[2] / "helm" / "decoder" / "files"
RULES = FILES / "rules.yaml"
ALERTMANAGER = FILES / "alertmanager.yaml"
DASHBOARD = FILES / "dashboard.json"
RUNBOOK = Path(__file__).parents[2] / "RUNBOOK.md"
OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
LOGS = Path(__file__).parents[2] / "docs" / "logs.md"

_PACKAGES = {
    "promtool": "prometheus",
    "prometheus": "prometheus",
    "amtool": "prometheus-alertmanager",
    "prometheus-alertmanager": "prometheus-alertmanager",
    "rsyslogd": "rsyslog",
    "chromium": "chromium",
}


def program(name: str) -> str:
    """The path of a program; without it the test is skipped, or fails in CI."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        unavailable(f"{name} is not here: Debian's package `{_PACKAGES[name]}` brings it")
    return found


def run(name: str, *args: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    command = [program(name), *map(str, args)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)


def load(path: Path) -> Any:
    """A YAML file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rules(kind: str, source: Path = RULES) -> list[dict[str, Any]]:
    """The rules of a kind, `alert` or `record`."""
    return [rule for group in load(source)["groups"] for rule in group["rules"] if kind in rule]
