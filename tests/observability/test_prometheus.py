"""The Prometheus configuration for installations without the chart: valid, and sufficient for the rules and the dashboard."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.observability.tools import RULES, load, run
from worker.local import prometheus
from worker.local.prometheus import TEMPLATE, lacking

pytestmark = pytest.mark.full

CONFIG = load(TEMPLATE)


def test_promtool_finds_it_good_with_its_rules() -> None:
    checked = run("promtool", "check", "config", TEMPLATE)
    assert checked.returncode == 0, checked.stderr
    assert "1 rule files found" in checked.stdout
    assert re.search(r"SUCCESS: \d\d+ rules found", checked.stdout)
    (rules,) = CONFIG["rule_files"]
    assert (TEMPLATE.parent / rules).resolve() == RULES


def test_its_job_and_labels_are_those_that_the_rules_expect() -> None:
    expected = re.search(r'job="([^"]+)", and `(\w+)` and `(\w+)`', RULES.read_text())
    assert expected
    (job,) = CONFIG["scrape_configs"]
    (target,) = job["static_configs"]
    assert (job["job_name"], *target["labels"]) == expected.groups()


def test_where_something_is_missing_it_says_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Debian package `prometheus`" in (lacking() or "")
    (tmp_path / "prometheus").touch(mode=0o700)
    assert lacking() is None
    monkeypatch.setattr(prometheus, "RULES", RULES.with_name("elsewhere.yaml"))
    assert "in a clone" in (lacking() or "")
