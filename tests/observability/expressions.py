"""PromQL expressions of the rules and the dashboard, and the metrics that they query."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser

from tests.observability.tools import DASHBOARD

# Grafana's values for its variables.
RATE_INTERVAL = "1m"


def dashboard() -> Any:
    """The dashboard's JSON."""
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    """Its panels, without rows."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    """Title and expression of each query of each panel, as Grafana sends it with everything selected."""
    return [(panel["title"], filled(target["expr"])) for panel in panels() for target in panel["targets"]]


def filled(expression: str, rate_interval: str = RATE_INTERVAL) -> str:
    """An expression with Grafana's variables filled in."""
    values = {"environment": ".*", "release": ".*", "__rate_interval": rate_interval}
    return re.sub(r"\$(\w+)", lambda match: values[match[1]], expression)


def selectors(expression: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Metric and label matchers of each selector in an expression.

    Raises:
        ValueError: it is not an expression.
    """
    yield from _selectors(promql_parser.parse(expression))


def _selectors(node: Any) -> Iterator[tuple[str, dict[str, str]]]:
    match node:
        case promql_parser.VectorSelector():
            yield str(node.name), {matcher.name: matcher.value for matcher in node.matchers.matchers}
        case promql_parser.MatrixSelector():
            yield from _selectors(node.vector_selector)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument)
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs)
            yield from _selectors(node.rhs)
        case promql_parser.NumberLiteral() | promql_parser.StringLiteral():
            return
        case _:  # an aggregation, parentheses, a sign, a subquery
            yield from _selectors(node.expr)
