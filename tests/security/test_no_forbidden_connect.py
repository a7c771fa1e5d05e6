"""No forbidden address, in any spelling or embedding, is ever passed to connect: observed at the socket, not at the policy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.certificates import Authority
from tests.servers.fetching import NAME, fetching
from tests.servers.misbehaving import DOCUMENT, MisbehavingServer
from tests.servers.sockets import connections
from tests.unit.worker.fetch.test_addresses import FORBIDDEN_IPV4, FORBIDDEN_IPV6  # not the worker's own list
from worker.fetch.policy import UrlPolicy


def _numbers(network: IPv4Network | IPv6Network) -> st.SearchStrategy[int]:
    first, last = int(network[0]), int(network[-1])
    return st.one_of(st.just(first), st.just(last), st.integers(first, last))


FOUR = st.one_of([_numbers(IPv4Network(text)) for text in FORBIDDEN_IPV4])
SIX = st.one_of([_numbers(IPv6Network(text)) for text in FORBIDDEN_IPV6])
_LOW = st.integers(0, 2**32 - 1)
_GLOBAL_PREFIX = 0x2A00_1450_4000_0000  # a public network's: only what it embeds is forbidden


@st.composite
def _embedded(draw: st.DrawFn) -> int:
    """A forbidden IPv4 address within an IPv6 one."""
    four = draw(FOUR)
    return draw(
        st.sampled_from(
            [
                0xFFFF << 32 | four,  # mapped
                four,  # compatible
                0xFFFF << 48 | four,  # translated
                0x64FF9B << 96 | four,  # NAT64
                0x64FF9B0001 << 80 | draw(_LOW) << 32 | four,  # NAT64, local prefix
                0x2002 << 112 | four << 80 | draw(_LOW),  # 6to4
                0x20010000 << 96 | draw(_LOW) << 64 | draw(_LOW) << 32 | (four ^ 0xFFFFFFFF),  # Teredo: the client
                0x20010000 << 96 | four << 64 | draw(_LOW),  # Teredo: the server
                _GLOBAL_PREFIX << 64 | 0x5EFE << 32 | four,  # ISATAP
                _GLOBAL_PREFIX << 64 | 0x02005EFE << 32 | four,  # ISATAP, of a unique address
            ]
        )
    )


ADDRESSES = st.one_of(FOUR.map(IPv4Address), SIX.map(IPv6Address), _embedded().map(IPv6Address)).map(str)
PUBLIC = st.sampled_from(["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"])


def _spellings_of_four(number: int) -> list[str]:
    a, b, c, d = number.to_bytes(4)
    return [
        f"{a}.{b}.{c}.{d}",
        f"{a}.{b}.{c}.{d}.",
        str(number),
        hex(number),
        f"0{number:o}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"0X{a:X}.000{b:o}.{number & 0xFFFF}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a:03}.{b:03}.{c:03}.{d:03}",
        "".join(chr(0xFF10 + int(letter)) if letter.isdigit() else letter for letter in f"{a}.{b}.{c}.{d}"),
        f"{a}。{b}。{c}。{d}",
        f"{a}%2e{b}%2e{c}%2e{d}",
        f"%3{str(a)[0]}{str(a)[1:]}.{b}.{c}.{d}",
    ]


def _spellings_of_six(number: int) -> list[str]:
    address = IPv6Address(number)
    low = IPv4Address(number & 0xFFFFFFFF)
    high = ":".join(address.exploded.split(":")[:6])
    return [
        f"[{address}]",
        f"[{address.exploded}]",
        f"[{str(address).upper()}]",
        f"[{high}:{low}]",
        f"[{address}%25eth0]",
        f"[{address}%eth0]",
    ]


HOSTS = st.one_of(
    FOUR.flatmap(lambda number: st.sampled_from(_spellings_of_four(number))),
    st.one_of(SIX, _embedded()).flatmap(lambda number: st.sampled_from(_spellings_of_six(number))),
)


def _allowlist_takes(entry: str) -> bool:
    try:
        UrlPolicy(hosts=(entry,), schemes=("http",), networks=())
    except ValueError:
        return False
    return True


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trust one certificate: reading the hundreds of the system takes longer than the rest of an example."""
    return Authority(tmp_path_factory.mktemp("authority")).ca_file


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


def test_the_watch_sees_what_is_connected_to(server: MisbehavingServer) -> None:
    with connections() as seen, fetching(server.port) as rig:
        assert rig.fetch(server.url("/ok", NAME)).body == DOCUMENT
        assert seen == [("127.0.0.1", server.port)]


@settings(max_examples=400, deadline=None)
@given(forbidden=st.lists(ADDRESSES, min_size=1, max_size=3), public=st.lists(PUBLIC, max_size=2), data=st.data())
def test_no_name_leads_to_a_forbidden_address(
    ca_file: Path, forbidden: list[str], public: list[str], data: st.DataObject
) -> None:
    answer = data.draw(st.permutations(forbidden + public))
    with (
        connections() as seen,
        fetching(lookup=answer, allowed_networks=(), allowed_hosts=(NAME,), ca_file=ca_file) as rig,
    ):
        with pytest.raises(MissionFailed) as caught:
            rig.fetch(f"http://{NAME}/", seconds=5)
        assert caught.value.reason is Reason.BLOCKED_ADDRESS
        assert not seen


@settings(max_examples=400, deadline=None)
@given(host=HOSTS)
def test_no_spelling_leads_to_a_forbidden_address(ca_file: Path, host: str) -> None:
    hosts = (host if _allowlist_takes(host) else NAME,)
    with connections() as seen, fetching(allowed_networks=(), allowed_hosts=hosts, ca_file=ca_file) as rig:
        with pytest.raises(MissionFailed):
            rig.fetch(f"http://{host}/", seconds=5)
        assert not seen


@settings(max_examples=150, deadline=None)
@given(host=HOSTS, answer=st.lists(ADDRESSES, min_size=1, max_size=2), named=st.booleans())
def test_no_redirect_leads_to_a_forbidden_address(
    server: MisbehavingServer, ca_file: Path, host: str, answer: list[str], *, named: bool
) -> None:
    place = "inside.example" if named else host
    hosts = (f"127.0.0.1:{server.port}", "inside.example", *([host] if _allowlist_takes(host) else []))
    server.raw = f"HTTP/1.1 302 Found\r\nLocation: http://{place}/\r\nContent-Length: 0\r\n\r\n".encode()
    with connections() as seen, fetching(lookup=answer, allowed_hosts=hosts, ca_file=ca_file) as rig:
        with suppress(MissionFailed):
            rig.fetch(server.url("/raw"), seconds=5)
        # This test allows loopback's own address, to reach the server at all; its port 80 refuses.
        assert {address for address, _ in seen} <= {"127.0.0.1", "::1"}
        assert seen[0] == ("127.0.0.1", server.port)
