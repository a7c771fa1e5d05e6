"""The address table: a case for each row of the registries and for each way to hold an IPv4 address in an IPv6 one."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.fetch.addresses import blocked

# Repeated here, not imported: a row missing from the table must fail a test.
FORBIDDEN_IPV4 = [
    "0.0.0.0/8",
    "0.0.0.0/32",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "168.63.129.16/32",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.0.0/29",
    "192.0.0.8/32",
    "192.0.0.9/32",
    "192.0.0.10/32",
    "192.0.0.170/32",
    "192.0.0.171/32",
    "192.0.0.192/32",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.88.99.2/32",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
]
FORBIDDEN_IPV6 = [
    "::/128",
    "::1/128",
    "::/96",
    "::/8",
    "::ffff:0:0/96",
    "::ffff:0:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "100:0:0:1::/64",
    "200::/7",
    "400::/6",
    "800::/5",
    "1000::/4",
    "2001::/23",
    "2001::/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:2::/48",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:10::/28",
    "2001:20::/28",
    "2001:30::/28",
    "2001:db8::/32",
    "2002::/16",
    "2620:4f:8000::/48",
    "3ffe::/16",
    "3fff::/20",
    "4000::/3",
    "5f00::/16",
    "6000::/3",
    "8000::/3",
    "a000::/3",
    "c000::/3",
    "e000::/4",
    "f000::/5",
    "f800::/6",
    "fc00::/7",
    "fe00::/9",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "93.184.215.14",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "168.63.129.17",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "191.255.255.255",
    "192.0.1.0",
    "192.0.3.0",
    "192.31.195.255",
    "192.52.194.0",
    "192.88.98.255",
    "192.88.100.0",
    "192.167.255.255",
    "192.169.0.0",
    "192.175.49.0",
    "198.17.255.255",
    "198.20.0.0",
    "198.51.99.255",
    "198.51.101.0",
    "203.0.112.255",
    "203.0.114.0",
    "223.255.255.255",
    "2000::1",
    "2001:200::",
    "2001:4860:4860::8888",
    "2001:db7:ffff::1",
    "2001:db9::1",
    "2003::1",
    "2606:4700:4700::1111",
    "2620:4f:7fff::1",
    "2620:4f:8001::1",
    "2a00:1450:4001:81c::200e",
    "3ffd:ffff::1",
    "3fff:1000::1",
]

# How an IPv6 address can embed an IPv4 address: prefix, and position in bits from the right.
EMBEDDINGS = {
    "compatible": ("::", 0),
    "mapped": ("::ffff:0:0", 0),
    "translated": ("::ffff:0:0:0", 0),
    "nat64": ("64:ff9b::", 0),
    "nat64, local use": ("64:ff9b:1:fffe::", 0),
    "6to4": ("2002::", 80),
    "teredo server": ("2001::f7f7:f7f7", 64),  # its client, inverted: 8.8.8.8
    "isatap": ("2a00:1450::5efe:0:0", 0),
    "isatap, unique": ("2a00:1450::200:5efe:0:0", 0),
    "isatap, group": ("2a00:1450::100:5efe:0:0", 0),
}
HOW = [*EMBEDDINGS, "teredo client"]
# If the layout of a NAT64 prefix for local use is uncertain, even the widest network does not open it.
ALL_IPV6 = (IPv6Network("::/0"), IPv6Network("64:ff9b:1:fffe::/96"))


def embed(address: IPv4Address, how: str) -> IPv6Address:
    if how == "teredo client":
        return IPv6Address(int(IPv6Address("2001:0:808:808::")) | ~int(address) & 0xFFFFFFFF)
    prefix, shift = EMBEDDINGS[how]
    return IPv6Address(int(IPv6Address(prefix)) | int(address) << shift)


def rfc6052(prefix: str, length: int, address: IPv4Address) -> IPv6Address:
    """RFC 6052, 2.2: byte 8 stays 0."""
    octets = bytearray(IPv6Address(prefix).packed)
    places = [place for place in range(length // 8, 16) if place != 8 or length == 96]
    for place, octet in zip(places, address.packed, strict=False):
        octets[place] = octet
    return IPv6Address(bytes(octets))


@pytest.mark.parametrize("network", FORBIDDEN_IPV4 + FORBIDDEN_IPV6)
def test_blocks_every_row_from_its_first_address_to_its_last(network: str) -> None:
    row = ip_network(network)
    assert blocked(row.network_address)
    assert blocked(row[row.num_addresses // 2])
    assert blocked(row.broadcast_address)


@pytest.mark.parametrize("address", PUBLIC)
def test_lets_public_addresses_through_also_next_to_a_row(address: str) -> None:
    assert not blocked(ip_address(address))


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("network", FORBIDDEN_IPV4)
def test_blocks_forbidden_ipv4_in_every_embedding_even_where_the_embedding_is_opened(network: str, how: str) -> None:
    for address in (IPv4Network(network)[0], IPv4Network(network)[-1]):
        assert blocked(embed(address, how))
        assert blocked(embed(address, how), ALL_IPV6)


@pytest.mark.parametrize("how", HOW)
def test_an_embedding_of_a_public_address_passes_where_it_is_opened(how: str) -> None:
    address = embed(IPv4Address("8.8.8.8"), how)
    assert not blocked(address, ALL_IPV6)
    assert blocked(address) or how.startswith("isatap")


def test_an_opened_embedding_of_an_opened_address_passes() -> None:
    opened = (IPv6Network("64:ff9b::/96"), IPv4Network("10.1.0.0/16"))
    assert not blocked(IPv6Address("64:ff9b::10.1.2.3"), opened)
    assert blocked(IPv6Address("64:ff9b::10.2.2.3"), opened)
    assert blocked(IPv6Address("::ffff:10.1.2.3"), opened)


def test_local_use_nat64_opens_only_where_its_layout_is_certain() -> None:
    """With a wider prefix, the IPv4 address could be at another position than the one we check."""
    address = IPv6Address("64:ff9b:1:fffe::8.8.8.8")
    assert blocked(address, (IPv6Network("64:ff9b:1::/48"),))
    assert blocked(address, (IPv6Network("64:ff9b:1:fffe::/64"),))
    assert not blocked(address, (IPv6Network("64:ff9b:1:fffe::/96"),))


@pytest.mark.parametrize("network", ["10.1.0.0/16", "127.0.0.1/32", "fd00::/8", "::1/128", "fe80::/11"])
def test_an_opened_network_passes_and_its_neighbours_do_not(network: str) -> None:
    opened = ip_network(network)
    assert not blocked(opened[0], (opened,))
    assert not blocked(opened[-1], (opened,))
    assert blocked(opened[0] - 1, (opened,))
    assert blocked(opened[-1] + 1, (opened,))
    assert blocked(IPv4Address("192.168.0.1"), (opened,))


EVERYTHING = (IPv4Network("0.0.0.0/0"), *ALL_IPV6)


METADATA = [
    *("169.254.169.254", "169.254.169.253", "169.254.170.2", "169.254.170.23", "169.254.0.23", "169.254.42.42"),
    *("100.100.100.200", "100.96.0.96", "168.63.129.16", "192.0.0.192", "fd20:ce::254", "fd00:c1::a9fe:a9fe"),
    *("fd00:ec2::254", "fd00:ec2::253", "fd00:ec2::23", "fe80::a9fe:a9fe", "fd00:42::42"),
]


@pytest.mark.parametrize("address", METADATA)
def test_metadata_addresses_are_blocked_whatever_is_opened(address: str) -> None:
    assert blocked(ip_address(address), EVERYTHING)
    assert blocked(ip_address(address), (ip_network(address),))


METADATA_IPV4 = [IPv4Address(address) for address in METADATA if ":" not in address]


@pytest.mark.parametrize("how", HOW)
def test_metadata_addresses_are_blocked_in_every_embedding_whatever_is_opened(how: str) -> None:
    for address in METADATA_IPV4:
        inside = embed(address, how)
        assert blocked(inside, EVERYTHING)
        assert blocked(inside, (IPv6Network(inside),))


@pytest.mark.parametrize("length", [32, 40, 48, 56, 64, 96])
@pytest.mark.parametrize("prefix", ["64:ff9b:1::", "64:ff9b::", "2a00:1450::", "fd00:64::"])
def test_metadata_addresses_are_blocked_behind_any_nat64_prefix(prefix: str, length: int) -> None:
    for address in METADATA_IPV4:
        assert blocked(rfc6052(prefix, length, address), EVERYTHING)


def test_an_address_with_a_zone_is_blocked_even_where_its_network_is_opened() -> None:
    assert not blocked(IPv6Address("fe80::1"), (IPv6Network("fe80::/10"),))
    assert blocked(IPv6Address("fe80::1%1"), (IPv6Network("fe80::/10"),))
    assert blocked(IPv6Address("2606:4700:4700::1111%1"))


@given(st.integers(0, 2**128 - 1))
def test_outside_of_global_unicast_every_ipv6_address_is_blocked(value: int) -> None:
    address = IPv6Address(value)
    assert blocked(address) or address in IPv6Network("2000::/3")


@given(st.ip_addresses())
def test_it_never_lets_through_what_python_calls_private(address: IPv4Address | IPv6Address) -> None:
    """Python's own table is shorter and differs between releases: ours must hold at least that."""
    assert blocked(address) or not (address.is_private or address.is_reserved or address.is_multicast)
