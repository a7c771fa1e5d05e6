"""The network policies, evaluated: which addresses a worker can reach."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.chart.rendering import PROXY, Object, Values, environment, everything, find, helm, render
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


@pytest.mark.parametrize("value", ["nodeCidrs", "apiServerCidrs", "clusterCidrs"])
def test_public_addresses_of_the_cluster_are_closed(value: str) -> None:
    ranges = ["34.118.224.0/20", "2600:1900::/32"]
    spec = policy(render(environment("prod", networkPolicy={value: ranges})), "worker")
    assert not reaches(spec, "34.118.224.1", 443)
    assert not reaches(spec, "2600:1900::1", 443)


@pytest.mark.parametrize("value", ["nodeCidrs", "apiServerCidrs"])
def test_without_the_addresses_of_nodes_and_api_server_nothing_is_installed(value: str) -> None:
    with pytest.raises(helm().HelmError, match=rf"networkPolicy\.{value}: set the .* prints them"):
        render(environment("prod", networkPolicy={value: []}))


@pytest.mark.parametrize("private", ["10.20.0.0/16", "fd00::/8", "::1/128", "fe80::/10", "64:ff9b::/96"])
def test_a_range_that_is_closed_anyway_renders_no_exception_that_kubernetes_refuses(private: str) -> None:
    given = {"nodeCidrs": [private], "apiServerCidrs": [private], "clusterCidrs": [private]}
    objects = render(environment("prod", networkPolicy=given))
    assert_exceptions_lie_within(objects)
    assert not reaches(policy(objects, "worker"), private.partition("/")[0], 443)


def test_sentinels_are_reached_where_there_are_some() -> None:
    assert not reaches(policy(render(environment("prod")), "worker"), "10.20.30.1", 26379)
    spec = policy(render(environment("prod", redis={"sentinelPort": 26379})), "worker")
    assert reaches(spec, "10.20.30.1", 26379)
    assert reaches(spec, "10.20.30.1", 6380)
    assert not reaches(spec, "10.20.31.1", 26379)


def test_with_a_proxy_workers_reach_that_and_none_of_the_web() -> None:
    spec = policy(render(environment("prod", egressProxy=PROXY, config={"allowedNetworks": ["10.1.0.0/16"]})), "worker")
    assert reaches(spec, "10.30.40.1", 3129)
    assert not reaches(spec, "10.30.40.1", 443)
    assert not reaches(spec, "10.30.41.1", 3129)
    for address in ("93.184.216.34", "2606:2800:220:1::1", "10.1.2.3"):
        assert not any(reaches(spec, address, port) for port in (80, 443, 3129)), address
    assert reaches(spec, "10.20.30.1", 6380), "Redis as ever"
    assert reaches(spec, "169.254.20.10", 53), "DNS as ever"


def test_nodes_and_metadata_within_the_proxys_range_stay_closed() -> None:
    wide = {"egressProxy": PROXY | {"cidrs": ["0.0.0.0/0", "10.0.0.0/8"]}}
    objects = render(environment("prod", **wide))
    assert_exceptions_lie_within(objects)
    spec = policy(objects, "worker")
    assert not reaches(spec, "10.20.0.1", 3129)
    assert [str(place) for place in METADATA if reaches(spec, str(place), 3129)] == []
    with pytest.raises(helm().HelmError, match=r"egressProxy\.cidrs: .* holds the metadata address"):
        render(environment("prod", egressProxy=PROXY | {"cidrs": ["169.254.169.254/32"]}))


WRONG_RANGES = [
    ("10.1.2.3/16", "has bits beyond its prefix"),
    ("2600:1900::1/32", "has bits beyond its prefix"),
    ("10.0.0.0/33", "is not a range"),
    ("10.0.0.256/32", "is not a range"),
    ("10.0.0/24", "is not a range"),
    ("2600::1900::/32", "is not a range"),
    ("2600:1900:/32", "is not a range"),
    ("1:2:3:4:5:6:7:8:9/128", "is not a range"),
    ("12345::/32", "is not a range"),
    ("2600::/129", "is not a range"),
]


@pytest.mark.parametrize(
    "value",
    [
        "networkPolicy.nodeCidrs",
        "networkPolicy.apiServerCidrs",
        "networkPolicy.clusterCidrs",
        "networkPolicy.nodeLocalDns",
        "config.allowedNetworks",
        "egressProxy.cidrs",
        "redis.cidrs",
    ],
)
@pytest.mark.parametrize(("text", "sentence"), WRONG_RANGES)
def test_what_kubernetes_would_take_for_no_range_is_refused_with_a_sentence(
    value: str, text: str, sentence: str
) -> None:
    group, _, name = value.partition(".")
    given: Values = {group: {name: [text]}}
    with pytest.raises(helm().HelmError) as refused:
        render(environment("prod", **given))
    assert f"{value}: {text} {sentence}" in str(refused.value)


@pytest.mark.parametrize("everywhere", ["0.0.0.0/0", "::/0", "2000::/3"])
def test_a_range_that_leaves_no_web_is_refused_with_a_sentence(everywhere: str) -> None:
    with pytest.raises(helm().HelmError, match=r"networkPolicy\.clusterCidrs: .* closes the whole web"):
        render(environment("prod", networkPolicy={"clusterCidrs": [everywhere]}))


def test_nodes_within_an_allowed_network_stay_closed() -> None:
    """The narrower entry wins."""
    wide = environment(
        "prod", config={"allowedNetworks": ["10.0.0.0/8"]}, networkPolicy={"nodeCidrs": ["10.20.0.0/16"]}
    )
    spec = policy(render(wide), "worker")
    assert reaches(spec, "10.1.2.3", 443)
    assert not reaches(spec, "10.20.0.1", 443)
    narrow = environment("prod", config={"allowedNetworks": ["10.20.3.0/24"]})
    spec = policy(render(narrow), "worker")
    assert reaches(spec, "10.20.3.1", 443)
    assert not reaches(spec, "10.20.4.1", 443)


@pytest.mark.parametrize("place", sorted(map(str, METADATA)))
def test_no_allowed_network_opens_a_metadata_address(place: str) -> None:
    network = ip_network(f"{place}/7", strict=False)
    objects = render(environment("prod", config={"allowedNetworks": [str(network)]}))
    assert_exceptions_lie_within(objects)
    assert [str(place) for place in METADATA if reaches(policy(objects, "worker"), str(place), 443)] == []


@pytest.mark.parametrize("place", sorted(map(str, METADATA)))
def test_a_metadata_address_itself_is_no_allowed_network(place: str) -> None:
    with pytest.raises(helm().HelmError, match=r"config[./]allowedNetworks"):
        render(environment("prod", config={"allowedNetworks": [f"{place}/{128 if ':' in place else 32}"]}))


@pytest.mark.parametrize("component", ["worker", "flower", "auditor", "test"])
def test_a_dns_cache_on_the_node_is_within_reach_at_its_port_alone(component: str) -> None:
    spec = policy(render(environment("prod")), component)
    assert reaches(spec, "169.254.20.10", 53)
    assert not reaches(spec, "169.254.20.10", 443)
    assert [str(place) for place in METADATA if reaches(spec, str(place), 53)] == []


def test_without_a_dns_cache_on_the_node_its_address_is_closed() -> None:
    spec = policy(render(environment("prod", networkPolicy={"nodeLocalDns": []})), "worker")
    assert not reaches(spec, "169.254.20.10", 53)


@pytest.mark.parametrize("network", ["169.254.0.0/16", "169.254.169.254/32", "fd00:ec2::254/128"])
def test_a_dns_cache_is_no_way_to_a_metadata_address(network: str) -> None:
    with pytest.raises(helm().HelmError, match=r"networkPolicy\.nodeLocalDns: .* holds the metadata address"):
        render(environment("prod", networkPolicy={"nodeLocalDns": [network]}))


@pytest.mark.parametrize("component", ["flower", "auditor", "test"])
def test_what_fetches_nothing_reaches_no_web(component: str) -> None:
    spec = policy(render(environment("prod")), component)
    assert not reaches(spec, "93.184.216.34", 443)
    assert reaches(spec, "10.20.30.1", 6380)


def test_every_exception_lies_within_its_range() -> None:
    assert_exceptions_lie_within(render(everything()))


def assert_exceptions_lie_within(objects: list[Object]) -> None:
    """Kubernetes refuses a policy with an exception outside its range."""
    for item in objects:
        for rule in item["spec"].get("egress", []) if item["kind"] == "NetworkPolicy" else []:
            for block in [peer["ipBlock"] for peer in rule["to"] if "ipBlock" in peer]:
                whole = ip_network(block["cidr"])
                inner: list[Any] = [ip_network(closed) for closed in block.get("except", [])]
                assert all(closed != whole and closed.subnet_of(whole) for closed in inner)


def test_every_pod_is_under_a_policy_in_both_directions() -> None:
    objects = render(everything())
    for component in ("worker", "flower", "valkey", "auditor", "test"):
        spec = policy(objects, component)
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == component


def test_valkey_talks_to_nobody_and_hears_only_its_own() -> None:
    spec = policy(render(environment("staging")), "valkey")
    (rule,) = spec["ingress"]
    heard = {peer["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for peer in rule["from"]}
    assert spec["egress"] == []
    assert heard == {"worker", "flower", "auditor", "test"}
