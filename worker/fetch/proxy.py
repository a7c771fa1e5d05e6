"""The egress proxy: each connection is a tunnel through it (CONNECT, RFC 9110 section 9.3.6), for http and for https.

So the proxy connects to exactly the checked address, `Host` stays the real host's, and only the proxy sees its login. For
http in absolute form none of that holds. A proxy such as tinyproxy or Squid rewrites `Host` from the request line (RFC
9112 section 3.2.2), one that needs no login passes ours on to the site, and its errors look like the site's.

If a working proxy reports that it cannot reach a host, that counts as if the worker had tried itself. A fault of the
proxy says nothing about any host.
"""

from __future__ import annotations

import math
import random
import ssl
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import socket
from time import monotonic
from typing import Self

from mission.errors import MissionFailed
from mission.model import Reason
from worker.egress import ProxyUrl
from worker.fetch.dns import Resolver
from worker.fetch.response import read_head
from worker.fetch.tls import TlsSocket
from worker.fetch.wire import ConnectFailed, Limits, Wait, Wire, dial
from worker.settings import WorkerSettings

# A mission that found no way out waits for this time, in seconds.
RETURN_SECONDS = (2.0, 10.0)
# For this time after the proxy last accepted the login, a refused login concerns only one host.
TRUSTED_SECONDS = 60.0
# tinyproxy answers 401 to a wrong login.
_LOGIN_REFUSED = (401, 407)
# An address without connections: no machine sends TCP to the broadcast address, so the proxy answers at once.
NOWHERE = "255.255.255.255"

Tunnel = socket | TlsSocket


class ProxyFailed(MissionFailed):
    """The proxy opened no tunnel, which says nothing about the host. The mission returns later."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason, retry_after=random.uniform(*RETURN_SECONDS))  # noqa: S311 (jitter)


class NoWayOut(ProxyFailed):
    """The proxy opens no tunnel to any host."""


class Proxy:
    """Opens tunnels for many threads.

    Args:
        place: the proxy's URL. The operator chose it, so the address guard does not apply; a mission gains nothing by it.
        tls: the context for a proxy that uses TLS.
        resolver: resolves only the proxy's own name, so that names from missions cannot delay it.
        resolves: whether the proxy gets names. Otherwise it gets only addresses.
    """

    def __init__(self, place: ProxyUrl, tls: ssl.SSLContext, resolver: Resolver, *, resolves: bool) -> None:
        self.place = place
        self._tls = tls
        self._resolver = resolver
        self._resolves = resolves
        # When the proxy last answered, and when it last accepted the login, on the monotonic clock.
        self._answered = self._let_in = -math.inf

    @classmethod
    def from_settings(cls, settings: WorkerSettings, tls: ssl.SSLContext) -> Self | None:
        """The proxy of `DECODER_EGRESS_PROXY`; None without one."""
        if settings.proxy is None:
            return None
        return cls(settings.proxy, tls, Resolver(threads=1), resolves=settings.proxy_resolves)

    def open(self, host: str, port: int, wait: Wait, until: float) -> Tunnel:
        """Open a tunnel to a host, usable like a connection to it.

        Args:
            host: an address, IPv6 without brackets; or a name, if the proxy resolves.
            port: of the host.
            wait: the time limit for everything.
            until: the end of that time, on the monotonic clock.

        Raises:
            NoWayOut: the proxy cannot be reached, or refuses the login.
            ProxyFailed: the proxy does not answer in HTTP, and has not answered other requests meanwhile. Or it refuses the
                login for this host.
            ConnectFailed: the proxy may not or cannot connect to the host (`PROXY_REFUSED`); it answers other requests, but
                not this one (`CONNECT_TIMEOUT`).
            MissionFailed: the deadline cut the time limit short, and the remaining time was too short.
            ValueError: the host is a name, but the proxy does not resolve; nothing was connected.
        """
        if not self._resolves:
            ip_address(host)
        sock = self._reach(wait, until)
        try:
            self._ask(sock, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", wait, until)
            return sock
        except BaseException:
            sock.close()
            raise

    def check(self, seconds: float) -> None:
        """Ask the proxy for a tunnel to `NOWHERE`: this contacts no host, and every proxy answers it.

        Raises:
            ProxyFailed: the proxy did not answer within `seconds`, or refuses the login.
        """
        with suppress(ConnectFailed):
            self.open(NOWHERE, 443, Wait(seconds, cut_short=False), monotonic() + seconds).close()

    def _reach(self, wait: Wait, until: float) -> Tunnel:
        """A connection to the proxy itself."""
        addresses = self._addresses(wait)
        for left in range(len(addresses), 0, -1):
            try:
                sock = dial(addresses[-left], self.place.port, max(until - monotonic(), 0.001) / left)
                break
            except TimeoutError:
                failure = wait.over(Reason.PROXY_FAILED, NoWayOut)
            except OSError:
                failure = NoWayOut(Reason.PROXY_FAILED)
        else:
            raise failure
        return self._shake_hands(sock, wait, until) if self.place.tls else sock

    def _addresses(self, wait: Wait) -> tuple[IPv4Address | IPv6Address, ...]:
        try:
            return (ip_address(self.place.host),)
        except ValueError:
            pass
        try:
            return self._resolver.resolve(self.place.host, self.place.port, wait)
        except MissionFailed as failure:
            if failure.reason is Reason.DEADLINE_EXCEEDED:
                raise
            raise NoWayOut(Reason.PROXY_FAILED) from None

    def _shake_hands(self, sock: socket, wait: Wait, until: float) -> TlsSocket:
        try:
            secured = TlsSocket(sock, self._tls, self.place.host)
            secured.settimeout(until - monotonic())
            secured.do_handshake()
            return secured
        except TimeoutError:
            sock.close()
            raise wait.over(Reason.PROXY_FAILED, NoWayOut) from None
        except (OSError, ValueError):
            sock.close()
            raise NoWayOut(Reason.PROXY_FAILED) from None

    def _ask(self, sock: Tunnel, authority: str, wait: Wait, until: float) -> None:
        """Send CONNECT. A successful answer ends with its head, whatever its fields say (RFC 9110 section 9.3.6)."""
        login = f"Proxy-Authorization: {self.place.login}\r\n" if self.place.login else ""
        wire = Wire(sock, Limits(until, connect=math.inf, read=math.inf))
        try:
            wire.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n".encode())
            _, status, _ = read_head(wire)
        except MissionFailed as failure:
            raise self._unanswered(failure, wait) from None
        self._answered = monotonic()
        if status in _LOGIN_REFUSED:
            # Some proxies require a login only for certain hosts: a mission for one of these must not block all others.
            known = monotonic() - self._let_in < TRUSTED_SECONDS
            raise (ProxyFailed if known else NoWayOut)(Reason.PROXY_LOGIN_REFUSED)
        self._let_in = monotonic()
        # No HTTP or TLS server sends data before the client does.
        if status // 100 != 2 or wire.pending:
            raise ConnectFailed(Reason.PROXY_REFUSED)

    def _unanswered(self, failure: MissionFailed, wait: Wait) -> MissionFailed:
        """The error for a missing answer: the host's fault if the proxy answers other requests, else the proxy's."""
        silent = failure.reason is Reason.DEADLINE_EXCEEDED
        if silent and wait.cut_short:
            return failure
        if monotonic() - self._answered < wait.seconds:
            return ConnectFailed(Reason.CONNECT_TIMEOUT if silent else Reason.PROXY_REFUSED)
        return ProxyFailed(Reason.PROXY_FAILED)
