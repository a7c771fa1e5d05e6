"""The egress proxy: each connection is a tunnel through it (CONNECT, RFC 9110 section 9.3.6), for http as for https.

So what was checked is what the proxy connects to, `Host` stays the real host's, and the proxy's login goes to the proxy
alone. None of that holds for http in absolute form: a proxy makes `Host` anew from the request line (RFC 9112 section
3.2.2), as tinyproxy and Squid do, and one that asks for no login hands ours on to the site. Nor could its errors be told
from the site's.

What a proxy that works says of a host counts as if the worker had tried by itself. What is wrong with the proxy says
nothing about any host.
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

# For so long a mission waits that found no way out, in seconds.
RETURN_SECONDS = (2.0, 10.0)
# For so long after it let anybody in, a login refused is the matter of one host.
TRUSTED_SECONDS = 60.0
# tinyproxy says 401 of a wrong login.
_LOGIN_REFUSED = (401, 407)
# Where no connection leads to: no TCP leaves a machine for the broadcast address, and the answer comes at once.
NOWHERE = "255.255.255.255"

Tunnel = socket | TlsSocket


class ProxyFailed(MissionFailed):
    """The proxy opened no tunnel, which says nothing about the host. The mission comes back later."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason, retry_after=random.uniform(*RETURN_SECONDS))  # noqa: S311 (jitter)


class NoWayOut(ProxyFailed):
    """And it opens none to any other host either."""


class Proxy:
    """Opens tunnels, from many threads side by side.

    Args:
        place: where it is. The operator chose that, so the address guard has no say in it; a mission gains nothing by it.
        tls: the context for a proxy that is spoken to by TLS.
        resolver: looks up its own name, and no other: names that missions choose must not stand in its way.
        resolves: whether it is handed names. Otherwise it is handed addresses alone.
    """

    def __init__(self, place: ProxyUrl, tls: ssl.SSLContext, resolver: Resolver, *, resolves: bool) -> None:
        self.place = place
        self._tls = tls
        self._resolver = resolver
        self._resolves = resolves
        # When it last answered anybody, and without asking for another login, on the monotonic clock.
        self._answered = self._let_in = -math.inf

    @classmethod
    def from_settings(cls, settings: WorkerSettings, tls: ssl.SSLContext) -> Self | None:
        """The proxy of `DECODER_EGRESS_PROXY`; None without one."""
        if settings.proxy is None:
            return None
        return cls(settings.proxy, tls, Resolver(threads=1), resolves=settings.proxy_resolves)

    def open(self, host: str, port: int, wait: Wait, until: float) -> Tunnel:
        """A tunnel to a host, as if it were a connection to it.

        Args:
            host: an address, IPv6 without brackets; or a name, where the proxy resolves.
            port: of the host.
            wait: how long it may take, all of it.
            until: when that is over, on the monotonic clock.

        Raises:
            NoWayOut: the proxy is not reached, or refuses the login.
            ProxyFailed: it does not answer, or not in HTTP; nor has it answered anybody else meanwhile. Or it refuses the
                login for this host.
            ConnectFailed: it may not or cannot connect to the host (`PROXY_REFUSED`); it answers others, and says
                nothing to this (`CONNECT_TIMEOUT`).
            MissionFailed: the deadline left less time than that, and it was not enough.
            ValueError: the host is a name that is not the proxy's to resolve; nothing was connected to.
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
        """Have it connect to nowhere: no host hears of it, and every proxy has an answer to that.

        Raises:
            ProxyFailed: it did not answer within so many seconds, or refuses the login.
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
        """Have it connect. A good answer ends with its head, whatever the fields say (RFC 9110 section 9.3.6)."""
        login = f"Proxy-Authorization: {self.place.login}\r\n" if self.place.login else ""
        wire = Wire(sock, Limits(until, connect=math.inf, read=math.inf))
        try:
            wire.sendall(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n".encode())
            _, status, _ = read_head(wire)
        except MissionFailed as failure:
            raise self._unanswered(failure, wait) from None
        self._answered = monotonic()
        if status in _LOGIN_REFUSED:
            # Some want a login for certain hosts alone: a mission for one of these must not shut everybody's way.
            known = monotonic() - self._let_in < TRUSTED_SECONDS
            raise (ProxyFailed if known else NoWayOut)(Reason.PROXY_LOGIN_REFUSED)
        self._let_in = monotonic()
        # No server of HTTP or TLS speaks before it is spoken to.
        if status // 100 != 2 or wire.pending:
            raise ConnectFailed(Reason.PROXY_REFUSED)

    def _unanswered(self, failure: MissionFailed, wait: Wait) -> MissionFailed:
        """Whose doing it is that no good answer came: that of the host, where the proxy answers others."""
        silent = failure.reason is Reason.DEADLINE_EXCEEDED
        if silent and wait.cut_short:
            return failure
        if monotonic() - self._answered < wait.seconds:
            return ConnectFailed(Reason.CONNECT_TIMEOUT if silent else Reason.PROXY_REFUSED)
        return ProxyFailed(Reason.PROXY_FAILED)
