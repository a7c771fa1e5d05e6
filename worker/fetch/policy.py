"""The URL policy: which schemes, hosts, ports and addresses a worker may fetch from. In doubt it refuses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Self

from mission.errors import MissionFailed
from mission.model import Reason
from mission.url import DEFAULT_PORTS, MissionUrl
from worker.allowlist import AllowedHost
from worker.fetch.addresses import blocked
from worker.fetch.dns import Resolver
from worker.fetch.wire import Wait
from worker.settings import WorkerSettings


class UrlPolicy:
    """Decides which URLs may be fetched. Immutable, and safe for many threads.

    Args:
        hosts: the allowlist: `host`, `*.host` (only its subdomains), `host:port`, `*.host:port`; names also in Unicode.
            An entry without a port opens the scheme's default port: 80 for http, 443 for https. A host may be an address.
        schemes: `http`, `https` or both.
        networks: networks that the address guard allows; it never allows metadata addresses.

    Raises:
        ValueError: an entry is not valid.
    """

    def __init__(
        self, *, hosts: Iterable[str], schemes: Iterable[str], networks: Iterable[IPv4Network | IPv6Network]
    ) -> None:
        self._schemes = frozenset(schemes)
        self._networks = tuple(networks)
        # The ports of each entry by its name, as in `AllowedHost`.
        self._open: dict[str, set[int | None]] = {}
        for entry in map(AllowedHost.parse, hosts):
            self._open.setdefault(entry.name, set()).add(entry.port)

    @classmethod
    def from_settings(cls, settings: WorkerSettings) -> Self:
        """The policy of `DECODER_ALLOWED_HOSTS`, `_ALLOWED_SCHEMES` and `_ALLOWED_NETWORKS`."""
        return cls(hosts=settings.allowed_hosts, schemes=settings.allowed_schemes, networks=settings.allowed_networks)

    def lists(self, entry: AllowedHost) -> bool:
        """Whether the allowlist contains exactly this entry."""
        return entry.port in self._open.get(entry.name, ())

    @property
    def entries(self) -> Iterable[str]:
        """The entries of the allowlist, each once and without its port: the possible results of `allowed_by`."""
        return self._open.keys()

    def check(self, url: MissionUrl) -> None:
        """Check everything that needs no look-up: scheme, host, port, and the address if the host is one.

        Raises:
            MissionFailed: with `scheme_not_allowed`, `host_not_allowed`, `port_not_allowed` or `blocked_address`.
        """
        if url.scheme not in self._schemes:
            raise MissionFailed(Reason.SCHEME_NOT_ALLOWED)
        if self.opened_by(url) is None:
            raise MissionFailed(Reason.PORT_NOT_ALLOWED if self.allowed_by(url) else Reason.HOST_NOT_ALLOWED)
        if (address := url.address) is not None:
            self._check_address(address)

    def allowed_by(self, url: MissionUrl) -> str | None:
        """The allowlist entry that covers a URL's host, without its port; None if there is none.

        It may be logged: it contains no untrusted text.
        """
        return next(self._entries(url.host), None)

    def opened_by(self, url: MissionUrl) -> AllowedHost | None:
        """The most specific entry that opens a URL's host and port; None if there is none.

        A name comes before a wildcard, a longer wildcard before a shorter one, and an entry with the port before the same without.
        """
        usual = url.port == DEFAULT_PORTS[url.scheme]
        for name in self._entries(url.host):
            ports = self._open[name]
            if url.port in ports:
                return AllowedHost(name, url.port)
            if usual and None in ports:
                return AllowedHost(name, None)
        return None

    def _check_address(self, address: IPv4Address | IPv6Address) -> None:
        if blocked(address, self._networks):
            raise MissionFailed(Reason.BLOCKED_ADDRESS)

    def addresses(self, url: MissionUrl, resolver: Resolver, wait: Wait) -> tuple[IPv4Address | IPv6Address, ...]:
        """The addresses of a URL's host, in the resolver's order and all checked.

        Args:
            url: a URL that passed `check`.
            resolver: used if the host is a name.
            wait: the time limit.

        Raises:
            MissionFailed: with `blocked_address` if any address is blocked, or with the resolver's reason.
        """
        literal = url.address
        found = (literal,) if literal is not None else resolver.resolve(url.host, url.port, wait)
        for address in found:
            self._check_address(address)
        return found

    def _entries(self, host: str) -> Iterator[str]:
        """The entries that cover a host: its own, then each wildcard above it, the nearest first."""
        if host in self._open:
            yield host
        while host := host.partition(".")[2]:
            if (wildcard := f"*.{host}") in self._open:
                yield wildcard
