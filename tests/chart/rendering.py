"""The chart, rendered by Helm's own engine."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mission.seal.sealing import Identity
from tests.conftest import unavailable

CHART = Path(__file__).resolve().parents[2] / "helm" / "decoder"
ENVIRONMENTS = ("staging", "prod")
# And the environment that needs nothing else.
SHIPPED = (*ENVIRONMENTS, "trial")
DIGEST = "sha256:" + "ab" * 32
OTHER_DIGEST = "sha256:" + "cd" * 32
RECIPIENT = Identity.generate().recipient.text
PROXY = {"enabled": True, "cidrs": ["10.30.40.0/28"], "port": 3129}
NODES, API_SERVER = ["10.20.0.0/16"], ["34.118.10.7/32"]

Object = dict[str, Any]
Values = dict[str, Any]


def merged(base: Mapping[str, Any], extra: Mapping[str, Any]) -> Values:
    """The mapping with another laid over it, level by level, as Helm does."""
    result = dict(base)
    for key, value in extra.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def default_values() -> Values:
    """The content of values.yaml."""
    return load_yaml(CHART / "values.yaml")


def load_yaml(path: Path) -> Values:
    """The one mapping that a file holds."""
    values: Values = yaml.safe_load(path.read_text(encoding="utf-8"))
    return values


def environment(name: str, **extra: Any) -> Values:
    """An environment's values, with those that the pipeline sets and those that only the operator knows."""
    given: Values = {
        "image": {"digest": DIGEST},
        "recipients": {"default": RECIPIENT + "\n"},
        "networkPolicy": {"nodeCidrs": NODES, "apiServerCidrs": API_SERVER},
    }
    if name == "trial":
        given = {}
    if name == "staging":
        given["valkey"] = {"image": {"digest": OTHER_DIGEST}}
    return merged(merged(load_yaml(CHART / f"values-{name}.yaml"), given), extra)


def everything(**extra: Any) -> Values:
    """Values that enable every object."""
    on: Values = {"enabled": True}
    values = {
        "valkey": on,
        "keda": on,
        "credentials": {"remoteKey": "decoder/credentials"},
        "redis": {"cidrs": ["10.20.30.0/28"], "tls": {"existingSecret": "tls", "clientCertificate": True}},
        "monitoring": {"alertmanager": on | {"existingSecret": "alerting"}, "labels": {"release": "prometheus"}},
    }
    return merged(merged(environment("staging"), values), extra)


def render(values: Values, chart: Path = CHART, **options: Any) -> list[Object]:
    """The objects of release `decoder` in namespace `missions`, in the order of their templates' names."""
    return list(_objects(_render(json.dumps(values), str(chart), json.dumps(options))))


def find(objects: list[Object], kind: str, name: str) -> Object:
    """The one object of this kind and name."""
    (found,) = (item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name)
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Name and pod spec of every workload."""
    for item in objects:
        if item["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]
        elif item["kind"] == "CronJob":
            yield item["metadata"]["name"], item["spec"]["jobTemplate"]["spec"]["template"]["spec"]
        elif item["kind"] == "Pod":
            yield item["metadata"]["name"], item["spec"]


def containers(spec: Object) -> list[Object]:
    """All containers of a pod, including init containers."""
    return [*spec.get("initContainers", ()), *spec["containers"]]


def _objects(rendered: Mapping[str, str]) -> Iterator[Object]:
    for path, text in sorted(rendered.items()):
        if not path.endswith("NOTES.txt"):
            yield from (item for item in yaml.load_all(text, yaml.CSafeLoader) if item)


def helm() -> Any:
    """Helm's engine."""
    try:
        return importlib.import_module("helm_python")
    except (ImportError, OSError) as problem:  # no wheel for this platform
        unavailable(f"helm-python-sdk is not usable here: {type(problem).__name__}")


@cache
def _render(values: str, chart: str, options: str) -> dict[str, str]:
    with helm().Chart.load(chart) as loaded:
        rendered: dict[str, str] = loaded.render(
            json.loads(values), name="decoder", namespace="missions", **json.loads(options)
        )
        return rendered
