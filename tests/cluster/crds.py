"""The definitions (CRDs) of the chart's custom resources, for an API server without the operators.

Generated from the operators' own types as npm's `@kubernetes-models` declares them for TypeScript: every field, its type, what is
required, what it may be one of. Patterns, lengths and defaults are not in there; `tests/chart/test_crds.py` asks for the first two.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.chart.crds import PACKAGES, SCHEMAS
from tests.cluster.kubernetes import Cluster

Schema = dict[str, Any]

_ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}
_SIMPLE: dict[str, Schema] = {
    **{name: {"type": name} for name in ("string", "number", "boolean")},
    **dict.fromkeys(("any", "object", "unknown"), _ANYTHING),
}


@contextmanager
def installed(cluster: Cluster, packages: Path) -> Iterator[None]:
    """Install the definitions that the cluster lacks, and remove them at the end. An operator's own definitions stay as they are."""
    there = cluster.kubectl("get", "crds", "--output", "name").split()
    missing = [key for key in SCHEMAS if f"customresourcedefinition.apiextensions.k8s.io/{_name(*key)}" not in there]
    names = [f"crd/{_name(*key)}" for key in missing]
    if missing:
        items = [_definition(packages, *key) for key in missing]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        cluster.kubectl("apply", "--server-side", "--filename", "-", given=text)
        cluster.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    try:
        yield
    finally:
        if missing:
            cluster.kubectl("delete", *names)


def _name(group_version: str, kind: str) -> str:
    return f"{kind.lower()}s.{group_version.partition('/')[0]}"


def _definition(packages: Path, group_version: str, kind: str) -> dict[str, Any]:
    group, _, version = group_version.partition("/")
    file = packages / "@kubernetes-models" / PACKAGES[group] / group / version / f"{kind}.d.ts"
    declared = _Declaration(packages, file).schema()
    properties = {name: declared["properties"][name] for name in ("spec", "status") if name in declared["properties"]}
    schema = {"type": "object", "properties": properties, "required": ["spec"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": _name(group_version, kind)},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "plural": f"{kind.lower()}s"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


class _Declaration:
    """A file that declares one type, `export interface … {…}` or `export type … = …;`, and imports other types from their own files."""

    def __init__(self, packages: Path, file: Path) -> None:
        self._packages = packages
        self._folder = file.parent
        text = re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
        self._imports = dict(re.findall(r'^import \{ (\w+) \} from "([^"]+)";$', text, re.MULTILINE))
        (_, body) = re.split(
            r"^export (?:interface \w+(?: extends \w+)? |type \w+ = )", text, maxsplit=1, flags=re.MULTILINE
        )
        self._tokens = re.findall(r'"[^"]*"|\w+|\S', body)[::-1]

    def schema(self) -> Schema:
        """The type as a structural schema."""
        kinds = [self._one()]
        while self._tokens[-1] == "|":
            self._take("|")
            kinds.append(self._one())
        if len(kinds) == 1:
            return kinds[0]
        if all("enum" in kind for kind in kinds):
            return {"type": "string", "enum": [value for kind in kinds for value in kind["enum"]]}
        assert {kind["type"] for kind in kinds} == {"string", "number"}, kinds
        return {"x-kubernetes-int-or-string": True}

    def _one(self) -> Schema:
        token = self._tokens.pop()
        if token.startswith('"'):
            return {"type": "string", "enum": [json.loads(token)]}
        if token in _SIMPLE:
            return _SIMPLE[token]
        if token == "Array":
            self._take("<")
            items = self.schema()
            self._take(">")
            return {"type": "array", "items": items}
        if token == "{":
            return self._map() if self._tokens[-1] == "[" else self._object()
        where = self._imports[token]
        file = self._folder / where if where.startswith(".") else self._packages / where
        return _Declaration(self._packages, file.with_suffix(".d.ts")).schema()

    def _map(self) -> Schema:
        self._take("[", "key", ":", "string", "]", ":")
        values = self.schema()
        self._take(";", "}")
        return {"type": "object", "additionalProperties": values}

    def _object(self) -> Schema:
        properties: dict[str, Schema] = {}
        required: list[str] = []
        while (token := self._tokens.pop()) != "}":
            name = json.loads(token)
            if self._tokens[-1] == "?":
                self._take("?")
            else:
                required.append(name)
            self._take(":")
            properties[name] = self.schema()
            self._take(";")
        if not properties:
            return _ANYTHING
        return {"type": "object", "properties": properties} | ({"required": required} if required else {})

    def _take(self, *tokens: str) -> None:
        for token in tokens:
            found = self._tokens.pop()
            assert found == token, (found, token)
