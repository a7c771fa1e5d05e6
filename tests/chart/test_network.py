"""The network policies: what a worker can reach, evaluated."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.chart.rendering import Object, environment, everything, find, render
from tests.unit.worker.fetch.test_addresses import FORBIDDEN_IPV4, FORBIDDEN_IPV6
from worker.fetch.addresses import METADATA


def policy(objects: list[Object], component: str) -> Any:
    return find(objects, "NetworkPolicy", f"decoder-{component}")["spec"]


def reaches(spec: Any, address: str, port: int) -> bool:
    """Whether a policy lets a pod open a TCP connection to an address outside of the cluster's pods."""
    rules = [rule for rule in spec["egress"] if {"protocol": "TCP", "port": port} in rule["ports"]]
    blocks = [peer["ipBlock"] for rule in rules for peer in rule["to"] if "ipBlock" in peer]
    return any(is_open(block, address) for block in blocks)


def is_open(block: Any, address: str) -> bool:
    target = ip_address(address)
    closed = any(target in ip_network(inner) for inner in block.get("except", []))
    return target in ip_network(block["cidr"]) and not closed


NETWORKS = [ip_network(network) for network in FORBIDDEN_IPV4 + FORBIDDEN_IPV6]
BLOCKED = sorted({str(place) for network in NETWORKS for place in (network[0], network[-1])} | set(map(str, METADATA)))


@pytest.mark.parametrize("name", ["staging", "prod"])
def test_what_the_address_guard_blocks_is_out_of_reach(name: str) -> None:
    spec = policy(render(environment(name)), "worker")
    assert [address for address in BLOCKED if reaches(spec, address, 443)] == []


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:2800:220:1::1", "11.0.0.1", "172.32.0.1"])
def test_the_web_is_within_reach_at_its_port_alone(address: str) -> None:
    spec = policy(render(environment("prod")), "worker")
    assert reaches(spec, address, 443)
    assert not reaches(spec, address, 80)
    assert not reaches(spec, address, 22)


def test_redis_is_within_reach_at_its_port_alone() -> None:
    spec = policy(render(environment("prod")), "worker")
    assert reaches(spec, "10.20.30.1", 6380)
    assert not reaches(spec, "10.20.30.1", 443)
    assert not reaches(spec, "10.20.30.16", 6380)


def test_an_allowed_network_is_open_in_the_policy_as_well() -> None:
    spec = policy(render(environment("prod", config={"allowedNetworks": ["10.1.0.0/16"]})), "worker")
    assert reaches(spec, "10.1.2.3", 443)
    assert not reaches(spec, "10.2.0.1", 443)


def test_public_ranges_of_the_cluster_can_be_closed() -> None:
    ranges = ["34.118.224.0/20", "2600:1900::/32"]
    spec = policy(render(environment("prod", networkPolicy={"clusterCidrs": ranges})), "worker")
    assert not reaches(spec, "34.118.224.1", 443)
    assert not reaches(spec, "2600:1900::1", 443)


@pytest.mark.parametrize("component", ["flower", "test"])
def test_what_fetches_nothing_reaches_no_web(component: str) -> None:
    spec = policy(render(environment("prod")), component)
    assert not reaches(spec, "93.184.216.34", 443)
    assert reaches(spec, "10.20.30.1", 6380)


def test_every_exception_lies_within_its_range() -> None:
    """Kubernetes refuses a policy where one does not."""
    for item in render(everything()):
        for rule in item["spec"].get("egress", []) if item["kind"] == "NetworkPolicy" else []:
            for block in [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]:
                whole = ip_network(block["cidr"])
                inner: list[Any] = [ip_network(closed) for closed in block.get("except", [])]
                assert all(closed != whole and closed.subnet_of(whole) for closed in inner)


def test_every_pod_is_under_a_policy_in_both_directions() -> None:
    objects = render(everything())
    for component in ("worker", "flower", "valkey", "test"):
        spec = policy(objects, component)
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == component


def test_valkey_talks_to_nobody_and_hears_only_its_own() -> None:
    spec = policy(render(environment("staging")), "valkey")
    (rule,) = spec["ingress"]
    heard = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]}
    assert spec["egress"] == []
    assert heard == {"worker", "flower", "test"}
