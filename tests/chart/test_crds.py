"""The custom resources against the operators' own definitions (CRDs), as npm's `@kubernetes-models` has compiled them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.chart.crds import PACKAGES, SCHEMAS
from tests.chart.rendering import Object, environment, everything, find, render
from tests.npm import node_modules

ALL = {"staging": environment("staging"), "prod": environment("prod"), "everything": everything()}

pytestmark = pytest.mark.full

# Read objects, each with its module, and print what is wrong with them.
PROGRAM = """
import { readFileSync } from "node:fs";
const wrong = [];
for (const [module, item] of JSON.parse(readFileSync(0))) {
  const Model = (await import(module))[item.kind];
  try { new Model(item).validate(); } catch (error) { wrong.push(`${item.kind} ${item.metadata.name}: ${error.message}`); }
}
console.log(JSON.stringify(wrong));
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return node_modules(tmp_path_factory.mktemp("npm"))


def module_of(item: Object) -> str:
    group, _, version = item["apiVersion"].partition("/")
    return f"@kubernetes-models/{PACKAGES[group]}/{group}/{version}/{item['kind']}"


def wrong_with(items: list[Object], packages: Path, folder: Path) -> list[str]:
    program = folder / "validate.mjs"
    program.write_text(PROGRAM)
    (folder / "node_modules").symlink_to(packages)
    text = json.dumps([(module_of(item), item) for item in items])
    done = subprocess.run(["node", program], input=text, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    wrong: list[str] = json.loads(done.stdout)
    return wrong


def custom(objects: list[Object]) -> list[Object]:
    return [item for item in objects if (item["apiVersion"], item["kind"]) in SCHEMAS]


@pytest.mark.parametrize("name", ALL)
def test_custom_resources_are_valid_by_the_operators_own_definitions(name: str, packages: Path, tmp_path: Path) -> None:
    items = custom(render(ALL[name]))
    assert items
    assert wrong_with(items, packages, tmp_path) == []


def test_every_kind_of_custom_resource_has_been_asked_for() -> None:
    assert {(item["apiVersion"], item["kind"]) for item in custom(render(everything()))} == set(SCHEMAS)


WRONG: list[tuple[str, str, str, Any]] = [
    ("ScaledObject", "decoder-worker", "triggers", [{"type": "prometheus", "metadata": {"threshold": 64}}]),
    ("PodMonitor", "decoder-worker", "podMetricsEndpoints", [{"port": "metrics", "interval": "often"}]),
    ("PrometheusRule", "decoder", "groups", [{"rules": []}]),
    ("AlertmanagerConfig", "decoder", "receivers", [{"slackConfigs": []}]),
    ("ExternalSecret", "decoder-secrets", "data", [{"secretKey": 1}]),
]


def test_a_wrong_field_of_each_kind_is_found(packages: Path, tmp_path: Path) -> None:
    objects = render(everything())
    items = [find(objects, kind, name) for kind, name, _, _ in WRONG]
    broken = [
        item | {"spec": item["spec"] | {field: value}} for item, (_, _, field, value) in zip(items, WRONG, strict=True)
    ]
    found = wrong_with(broken, packages, tmp_path)
    assert [line.split()[0] for line in found] == [kind for kind, _, _, _ in WRONG]
