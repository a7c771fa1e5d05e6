"""The shipped rules and routing, rewritten for a drill: the same expressions over seconds instead of hours."""

from __future__ import annotations

import re
from typing import Any

from tests.drill.receiver import HEARTBEAT

# Each is long enough for one scrape a second to show what happens in it, and they keep the order of the real windows.
WINDOWS = {
    "5m": "8s", "10m": "10s", "15m": "40s", "30m": "15s", "50m": "18s", "1h": "20s", "2h": "22s", "6h": "30s", "1d": "40s", "3d": "60s",
}  # fmt: skip
# How long an alert's condition holds before it fires.
PATIENCE = {"1m": "1s", "2m": "2s", "5m": "10s", "10m": "3s", "15m": "3s", "20m": "3s", "1h": "3s"}
# Time thresholds: a drill cannot wait half an hour for a mission to become that old.
TIMES = {"> 1800": "> 20"}


def shortened_rules(rules: dict[str, Any]) -> dict[str, Any]:
    """Prometheus rules with every window, offset and `for` shortened; all are evaluated at the drill's own interval.

    Raises:
        KeyError: a window is not in the tables.
    """
    return {
        "groups": [
            {"name": group["name"], "rules": [_shortened(rule) for rule in group["rules"]]} for group in rules["groups"]
        ]
    }


def _shortened(rule: dict[str, Any]) -> dict[str, Any]:
    expression = rule["expr"]
    for time, short_time in TIMES.items():
        expression = expression.replace(time, short_time)
    expression = re.sub(r"\[(\w+)\]", lambda match: f"[{WINDOWS[match[1]]}]", expression)
    expression = re.sub(r"\boffset (\w+)", lambda match: f"offset {WINDOWS[match[1]]}", expression)
    short = rule | {"expr": expression}
    if "for" in rule:
        short["for"] = PATIENCE[rule["for"]]
    return short


def rehearsed_routing(config: dict[str, Any], receiver_url: str) -> dict[str, Any]:
    """Alertmanager's configuration with the same routes, grouping and inhibition, without delays, to a local receiver.

    Args:
        config: the shipped configuration.
        receiver_url: each receiver becomes a webhook to this address, followed by its name.
    """
    return config | {
        "route": _hurried(config["route"]),
        "receivers": [
            {
                "name": item["name"],
                "webhook_configs": [
                    {"url": f"{receiver_url}/{item['name']}", "send_resolved": item["name"] != HEARTBEAT}
                ],
            }
            for item in config["receivers"]
        ],
    }


def _hurried(route: dict[str, Any]) -> dict[str, Any]:
    names = ("group_wait", "group_interval", *(["repeat_interval"] if route["receiver"] == HEARTBEAT else []))
    times = {name: "1s" for name in names if name in route}
    return route | times | ({"routes": [_hurried(child) for child in route["routes"]]} if "routes" in route else {})
