"""Checkov, offline, on the rendered chart: every failed check is listed with its reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import SHIPPED, environment, render
from tests.conftest import unavailable

pytestmark = pytest.mark.full

# A trial takes images by tag, since they were loaded by hand, and has no network policy.
MEANT = {"trial": {"CKV_K8S_43", "CKV_K8S_15", "CKV2_K8S_6"}}


@pytest.mark.parametrize("name", SHIPPED)
def test_no_check_fails_that_is_not_named_with_its_reason(name: str, tmp_path: Path) -> None:
    checkov = shutil.which(os.environ.get("CHECKOV", "checkov"))
    if checkov is None:
        unavailable("checkov is not here: install ci/requirements.txt in an environment of its own, name it in CHECKOV")
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(render(environment(name))))
    command = [
        str(Path(checkov).absolute()),
        "--skip-download",
        "--framework",
        "kubernetes",
        "--output",
        "json",
        "--directory",
        str(tmp_path),
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stdout
    results = json.loads(shown)["results"]
    failed = [
        f"{check['check_id']} {check['resource']}"
        for check in results["failed_checks"]
        if check["check_id"] not in MEANT.get(name, ())
    ]
    assert len(results["passed_checks"]) > 100
    assert failed == []
    assert all(len(check["check_result"]["suppress_comment"]) > 10 for check in results["skipped_checks"] or [])
