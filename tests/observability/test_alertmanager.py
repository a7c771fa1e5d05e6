"""The routes of alerts, resolved by Alertmanager's own tool; the drill sends real alerts through the file."""

from __future__ import annotations

import re

import pytest

from tests.observability.tools import ALERTMANAGER, load, rules, run

pytestmark = pytest.mark.full

ROUTES = {"page": "pagerduty,slack", "ticket": "slack", "heartbeat": "heartbeat", "": "slack"}


def test_amtool_finds_it_in_order() -> None:
    done = run("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("severity", ROUTES)
def test_each_severity_goes_where_it_should(severity: str) -> None:
    labels = [f"severity={severity}"] if severity else []
    done = run(
        "amtool",
        "config",
        "routes",
        "test",
        f"--config.file={ALERTMANAGER}",
        f"--verify.receivers={ROUTES[severity]}",
        *labels,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_severity_that_a_rule_has_is_routed_by_name() -> None:
    routed = re.findall(r'severity="(\w+)"', str(load(ALERTMANAGER)["route"]))
    assert {rule["labels"]["severity"] for rule in rules("alert")} == set(routed)


def test_no_key_stands_in_the_file() -> None:
    receivers = load(ALERTMANAGER)["receivers"]
    configs = [config for receiver in receivers for kind in receiver if kind != "name" for config in receiver[kind]]
    keys = {key: value for config in configs for key, value in config.items() if re.search("key|url|token", key)}
    assert set(keys) == {"routing_key_file", "api_url_file", "url"}
    assert keys.pop("url") == "https://heartbeat.example.com/decoder"  # of no route
    assert all(value.startswith("/") for value in keys.values())


def test_the_heartbeat_comes_often_and_is_silenced_by_nothing() -> None:
    config = load(ALERTMANAGER)
    (route,) = [route for route in config["route"]["routes"] if route["receiver"] == "heartbeat"]
    assert (route["group_wait"], route["repeat_interval"]) == ("0s", "5m")
    for rule in config["inhibit_rules"]:
        assert not any("heartbeat" in matcher for matcher in rule["target_matchers"])
        assert any(re.match("area|severity|alertname", matcher) for matcher in rule["target_matchers"])


def test_what_silences_and_what_is_silenced_are_alerts_that_exist() -> None:
    alerts = {rule["alert"] for rule in rules("alert")}
    areas = {rule["labels"]["area"] for rule in rules("alert")}
    for rule in load(ALERTMANAGER)["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            name, values = re.fullmatch(r'(\w+)=~?"(.*)"', matcher).groups()  # type: ignore[union-attr]  # a mismatch fails the test
            known = {"alertname": alerts, "area": areas, "severity": {"page", "ticket", "heartbeat"}}[name]
            assert set(values.split("|")) <= known


def test_installations_do_not_silence_each_other() -> None:
    assert all({"environment", "release"} <= set(rule["equal"]) for rule in load(ALERTMANAGER)["inhibit_rules"])
