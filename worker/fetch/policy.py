"""The URL policy: which schemes, hosts, ports and addresses a worker may fetch from. Closed when in doubt."""

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
    """What may be fetched. Immutable, and used by many threads at a time.

    Args:
        hosts: the allowlist: `host`, `*.host` (its subdomains alone), `host:port`, `*.host:port`; names also in Unicode.
            An entry without a port opens the scheme's own: 80 for http, 443 for https. An address may be listed.
        schemes: `http`, `https` or both.
        networks: let through the address guard; metadata addresses never are.

    Raises:
        ValueError: an entry is no host.
    """

    def __init__(
        self, *, hosts: Iterable[str], schemes: Iterable[str], networks: Iterable[IPv4Network | IPv6Network]
    ) -> None:
        self._schemes = frozenset(schemes)
        self._networks = tuple(networks)
        # The ports of each entry by its name, as `AllowedHost` has them.
        self._open: dict[str, set[int | None]] = {}
        for entry in map(AllowedHost.parse, hosts):
            self._open.setdefault(entry.name, set()).add(entry.port)

    @classmethod
    def from_settings(cls, settings: WorkerSettings) -> Self:
        """The policy as `DECODER_ALLOWED_HOSTS`, `_ALLOWED_SCHEMES` and `_ALLOWED_NETWORKS` have it."""
        return cls(hosts=settings.allowed_hosts, schemes=settings.allowed_schemes, networks=settings.allowed_networks)

    def lists(self, entry: AllowedHost) -> bool:
        """Whether the allowlist has this very entry."""
        return entry.port in self._open.get(entry.name, ())

    @property
    def entries(self) -> Iterable[str]:
        """The entries of the allowlist, each once, without its port: what `allowed_by` may answer."""
        return self._open.keys()

    def check(self, url: MissionUrl) -> None:
        """Check everything that can be without a look-up: scheme, host, port, and the address where the host is one.

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
        """The entry of the allowlist that a URL's host falls under, without its port; None where there is none.

        It may be logged: it holds nothing that a stranger chose.
        """
        return next(self._entries(url.host), None)

    def opened_by(self, url: MissionUrl) -> AllowedHost | None:
        """The one entry that opens a URL's host and port, the most specific of those that do; None where none does.

        A name comes before a wildcard, a nearer wildcard before a farther one, and of two with the same name the one with the port.
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
        """The addresses of a URL's host, in the resolver's order; every one of them was checked.

        Args:
            url: one that `check` let through.
            resolver: asked when the host is a name.
            wait: how long it may take.

        Raises:
            MissionFailed: with `blocked_address` if a single one is, or as the resolver does.
        """
        literal = url.address
        found = (literal,) if literal is not None else resolver.resolve(url.host, url.port, wait)
        for address in found:
            self._check_address(address)
        return found

    def _entries(self, host: str) -> Iterator[str]:
        """The entries that a host falls under: its own, then each wildcard above it, the nearest first."""
        if host in self._open:
            yield host
        while host := host.partition(".")[2]:
            if (wildcard := f"*.{host}") in self._open:
                yield wildcard
