"""The address guard's table: addresses that the worker never fetches from, whatever a name resolves to.

The table is explicit, since `ipaddress.is_global` differs between Python's patch releases. It holds the whole IANA
special-purpose registries, also the globally reachable rows (they serve protocols, not documents), and a few ranges
beyond them. IPv4 is open unless listed; IPv6 is open only within 2000::/3, the only range allocated so far. A registry
row within a blocked range has no line of its own here; the tests list it.
An IPv6 address that embeds an IPv4 address passes only if both pass.

https://www.iana.org/assignments/iana-ipv4-special-registry, https://www.iana.org/assignments/iana-ipv6-special-registry

The guard cannot recognise an operator's own NAT64 prefix (RFC 6052, 2.2) in public address space. That translator must
refuse private IPv4 itself (RFC 6052, 5.1); the guard still recognises metadata addresses in such a prefix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

BLOCKED = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",  # "This network" (RFC 791), with 0.0.0.0/32 "This host on this network" (RFC 1122)
        "10.0.0.0/8",  # Private-Use (RFC 1918)
        "100.64.0.0/10",  # Shared Address Space: CGNAT (RFC 6598)
        "127.0.0.0/8",  # Loopback (RFC 1122)
        "169.254.0.0/16",  # Link Local (RFC 3927)
        "172.16.0.0/12",  # Private-Use (RFC 1918)
        "192.0.0.0/24",  # IETF Protocol Assignments (RFC 6890), with all that was assigned
        "192.0.2.0/24",  # Documentation, TEST-NET-1 (RFC 5737)
        "192.31.196.0/24",  # AS112-v4 (RFC 7535)
        "192.52.193.0/24",  # AMT (RFC 7450)
        "192.88.99.0/24",  # Deprecated, 6to4 Relay Anycast (RFC 7526), with 192.88.99.2/32 6a44 (RFC 6751)
        "192.168.0.0/16",  # Private-Use (RFC 1918)
        "192.175.48.0/24",  # Direct Delegation AS112 Service (RFC 7534)
        "198.18.0.0/15",  # Benchmarking (RFC 2544)
        "198.51.100.0/24",  # Documentation, TEST-NET-2 (RFC 5737)
        "203.0.113.0/24",  # Documentation, TEST-NET-3 (RFC 5737)
        "224.0.0.0/4",  # Multicast (RFC 5771)
        "240.0.0.0/4",  # Reserved (RFC 1112), with 255.255.255.255/32 Limited Broadcast (RFC 8190)
        "2001::/23",  # IETF Protocol Assignments (RFC 2928), with all that was assigned: Teredo, AMT, ORCHID and others
        "2001:db8::/32",  # Documentation (RFC 3849)
        "2002::/16",  # 6to4 (RFC 3056), whole: its relays are gone (RFC 7526)
        "2620:4f:8000::/48",  # Direct Delegation AS112 Service (RFC 7534)
        "3ffe::/16",  # 6bone, given back (RFC 3701)
        "3fff::/20",  # Documentation (RFC 9637)
    )
)
_IPV6_OPEN = IPv6Network("2000::/3")  # Global Unicast (RFC 4291)

# Clouds give credentials to any client of these addresses: no setting opens them.
METADATA = frozenset(
    {
        IPv4Address("169.254.169.254"),  # AWS, Azure, Google, Oracle, DigitalOcean, OpenStack and others
        IPv4Address("169.254.169.253"),  # AWS: name server of the VPC
        IPv4Address("169.254.170.2"),  # AWS ECS: task credentials
        IPv4Address("169.254.170.23"),  # AWS EKS: pod identity
        IPv4Address("169.254.0.23"),  # Tencent Cloud
        IPv4Address("169.254.42.42"),  # Scaleway
        IPv4Address("100.100.100.200"),  # Alibaba Cloud
        IPv4Address("100.96.0.96"),  # Volcano Engine
        IPv4Address("168.63.129.16"),  # Azure: WireServer; in public address space
        IPv4Address("192.0.0.192"),  # Oracle Cloud, classic
        IPv6Address("fd00:ec2::254"),  # AWS
        IPv6Address("fd00:ec2::253"),  # AWS: name server of the VPC
        IPv6Address("fd00:ec2::23"),  # AWS EKS: pod identity
        IPv6Address("fd20:ce::254"),  # Google
        IPv6Address("fd00:c1::a9fe:a9fe"),  # Oracle Cloud
        IPv6Address("fe80::a9fe:a9fe"),  # OpenStack
        IPv6Address("fd00:42::42"),  # Scaleway
    }
)
_METADATA_IPV4 = frozenset(int(address) for address in METADATA if address.version == 4)

# RFC 8215 lets an operator use any of RFC 6052's formats in this range. Only a network that fixes all but the last four
# bytes shows for certain which IPv4 address is meant.
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_CERTAIN_PREFIX = 96

_LAST_32 = tuple(map(IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")))
_LOOPBACK = IPv6Address("::1")  # looks IPv4-compatible, but is not (RFC 4291, 2.5.3)
_6TO4 = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP = 0x00005EFE  # RFC 5214, 6.1: the interface identifier, its u and g bits cleared
_ISATAP_BITS = 0xFCFFFFFF
_WORD = 0xFFFFFFFF


@lru_cache(maxsize=4096)  # each fetch calls it, mostly for the same hosts
def blocked(address: Address, opened: tuple[Network, ...] = ()) -> bool:
    """Whether the guard refuses an address. It allows the networks `opened`, but never metadata addresses.

    It refuses an IPv6 address with a zone, which is valid only on one link (RFC 4007).
    """
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return True
    return _is_metadata(address) or any(_listed(part) and not _opens(opened, part) for part in _parts(address))


def _parts(address: Address) -> Iterator[Address]:
    """The address, and every IPv4 address that it embeds in a known format."""
    yield address
    if isinstance(address, IPv6Address) and address != _LOOPBACK:
        value = int(address)
        if any(address in network for network in _LAST_32) or (value >> 32 & _ISATAP_BITS) == _ISATAP:
            yield IPv4Address(value & _WORD)
        if address in _6TO4:
            yield IPv4Address(value >> 80 & _WORD)
        if address in _TEREDO:
            yield IPv4Address(value >> 64 & _WORD)  # its server
            yield IPv4Address(~value & _WORD)  # its client (RFC 4380, 4)


def _opens(opened: Sequence[Network], part: Address) -> bool:
    """Whether one of the opened networks allows this part."""
    least = _CERTAIN_PREFIX if part in _NAT64_LOCAL else 0
    return any(part in network and network.prefixlen >= least for network in opened)


def _is_metadata(address: Address) -> bool:
    return address in METADATA or (
        isinstance(address, IPv6Address) and not _METADATA_IPV4.isdisjoint(_readings(int(address)))
    )


def _readings(value: int) -> tuple[int, ...]:
    """Every IPv4 address that an IPv6 address may embed, whatever its prefix.

    Covers RFC 6052, 2.2 for each prefix length (without bits 64 to 71), 6to4, Teredo and ISATAP.
    """
    around = value >> 64 << 56 | value & (1 << 56) - 1  # without bits 64 to 71
    return (
        value & _WORD,  # prefix of 96 bits; mapped, compatible, translated, ISATAP
        ~value & _WORD,  # Teredo's client
        value >> 80 & _WORD,  # 6to4
        *(around >> shift & _WORD for shift in (24, 32, 40, 48, 56)),
    )


def _listed(address: Address) -> bool:
    """Whether the table blocks the address."""
    outside = address.version == 6 and address not in _IPV6_OPEN
    return outside or any(address in network for network in BLOCKED)
