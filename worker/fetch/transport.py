"""Pinned connections: the worker connects to exactly the address that it checked.

An adapter of `requests` over urllib3's pools. Each connection goes to an address, never to a name, or through the
configured egress proxy. Server name, certificate and `Host` stay the real host's. The environment has no effect: no
proxies, no netrc, no other CA bundle, no key log.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic
from typing import Any

import certifi
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from mission.errors import SettingsError
from mission.model import Reason
from mission.url import MissionUrl
from mission.version import VERSION
from worker.fetch.proxy import Proxy, Tunnel
from worker.fetch.response import StrictResponse
from worker.fetch.tls import TlsSocket
from worker.fetch.wire import ConnectFailed, Limits, Unreached, Wait, Wire, dial

USER_AGENT = f"mission-decoder/{VERSION}"
MAX_POOLS = 64
NO_FIELDS: Mapping[str, str] = {}

# urllib3 logs targets, at debug for each request and at warning for unusual ones. A filter survives any logging set-up.
for _name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(lambda _record: False)


# Takes host, port, the time limit and its end on the monotonic clock; returns a connection: see `Proxy.open`.
_Way = Callable[[str, int, Wait, float], Tunnel]


def straight(host: str, port: int, wait: Wait, _until: float) -> Tunnel:
    """Connect directly to a host, which must be an address.

    Raises:
        ConnectFailed: the address did not accept the connection.
        MissionFailed: the deadline cut the time for connecting short, and the remaining time was too short.
        ValueError: the host is not an address; nothing was resolved or connected.
    """
    address = ip_address(host)
    try:
        return dial(address, port, wait.seconds)
    except TimeoutError:
        raise wait.over(Reason.CONNECT_TIMEOUT, ConnectFailed) from None
    except OSError:
        # Also on a system without IPv6: the host's next address may be IPv4.
        raise ConnectFailed(Reason.CONNECTION_FAILED) from None


class PinnedRequest(PreparedRequest):
    """A GET, or with a body a POST, to a fixed address, or to a name if a proxy resolves it. Its `url` reveals neither.

    `fields` are additional header fields, or replace its own.
    """

    def __init__(
        self,
        url: MissionUrl,
        address: IPv4Address | IPv6Address | str,
        limits: Limits,
        way: _Way = straight,
        fields: Mapping[str, str] = NO_FIELDS,
        body: bytes | None = None,
    ) -> None:
        super().__init__()
        self.target = url.target
        self.scheme = url.scheme
        self.host = url.host.strip("[]")
        self.port = url.port
        self.address = address
        self.limits = limits
        self.way = way
        self.method = "GET" if body is None else "POST"
        self.url = f"{url.scheme}://pinned/"
        self.headers = CaseInsensitiveDict(
            {"Host": url.authority, "User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
        )
        self.headers.update(fields)
        if body is not None:
            self.body = body
            self.headers["Content-Length"] = str(len(body))


# The request that this thread is sending: urllib3 cannot pass it down to the connection.
_REQUEST: ContextVar[PinnedRequest] = ContextVar("request")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """A context for TLS 1.2 or later that verifies certificate and name against `ca_file` or the system's store.

    The system's store is OpenSSL's built-in location, not that of SSL_CERT_FILE or SSL_CERT_DIR; if it is empty, certifi's
    store. The context ignores SSLKEYLOGFILE, which only Python's default contexts read.

    Raises:
        SettingsError: `ca_file` contains no certificates.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except OSError:
            raise SettingsError(
                f"DECODER_CA_FILE: got {str(ca_file)!r}; takes a readable file of CA certificates in PEM format"
            ) from None
        return context
    paths = ssl.get_default_verify_paths()
    file = paths.openssl_cafile if Path(paths.openssl_cafile).is_file() else None
    folder = paths.openssl_capath if any(Path(paths.openssl_capath).glob("*.0")) else None
    context.load_verify_locations(cafile=file if file or folder else certifi.where(), capath=folder)
    return context


def _connect(connection: HTTPConnection, server_name: str | None, tls: ssl.SSLContext | None) -> Wire:
    """Connect to the connection's host, directly or through the proxy, and perform the TLS handshake if there is TLS.

    Raises:
        Unreached: TLS failed.
        MissionFailed, ValueError: as in `straight` and `Proxy.open`.
    """
    request = _REQUEST.get()
    wait = request.limits.wait(request.limits.connect)
    until = monotonic() + wait.seconds
    sock = request.way(connection.host, connection.port, wait, until)
    try:
        return Wire(sock if tls is None else _shake_hands(sock, wait, until, server_name, tls), request.limits)
    except BaseException:
        sock.close()
        raise


def _shake_hands(sock: Tunnel, wait: Wait, until: float, server_name: str | None, tls: ssl.SSLContext) -> TlsSocket:
    try:
        secured = TlsSocket(sock, tls, server_name)
        secured.settimeout(until - monotonic())
        secured.do_handshake()
        return secured
    except TimeoutError:
        raise wait.over(Reason.CONNECT_TIMEOUT, ConnectFailed) from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ConnectionError):
        raise ConnectFailed(Reason.CONNECTION_FAILED) from None
    except (OSError, ValueError):
        # These include ssl.SSLError and CertificateError; ValueError: a name that no certificate can contain.
        raise Unreached(Reason.TLS_FAILURE) from None


class _Pinned(HTTPConnection):
    """The common part of the connections for both schemes: the wire, the strict response, and the exact target."""

    response_class = StrictResponse
    sock: Any  # a Wire, in place of the socket

    def connect(self) -> None:
        """Connect to the checked address."""
        self.sock = _connect(self, None, None)

    def request(self, method: str, _url: str, *_args: Any, **options: Any) -> None:  # type: ignore[override]
        """Send the request with exactly the checked target: urllib3 would encode it again."""
        request = _REQUEST.get()
        if self.sock is None:
            self.connect()
        self.sock.limits = request.limits
        self.sock.requests += 1
        super().request(method, request.target, **options)

    @property
    def is_connected(self) -> bool:
        """Whether the connection can take another request."""
        return self.sock is not None and self.sock.idle


class _PinnedTLS(_Pinned, HTTPSConnection):
    """The same with TLS, for the real host's name."""

    def connect(self) -> None:
        """Connect to the checked address, and verify the peer's certificate."""
        self.sock = _connect(self, self.server_hostname, self.ssl_context)
        self.is_verified = True


class _PinnedPool(HTTPConnectionPool):
    ConnectionCls: type[Any] = _Pinned


class _PinnedTLSPool(HTTPSConnectionPool):
    ConnectionCls: type[Any] = _PinnedTLS


class PinnedAdapter(HTTPAdapter):
    """Sends requests to checked addresses, and keeps connections alive for each (scheme, host, address, port).

    Args:
        tls: the context for https.
        connections: number kept alive for each of the `MAX_POOLS` most recent destinations.
        proxy: if given, each connection is a tunnel through it.
    """

    def __init__(self, tls: ssl.SSLContext, *, connections: int, proxy: Proxy | None = None) -> None:
        self._tls = tls
        self._way = proxy.open if proxy else straight
        super().__init__(pool_connections=MAX_POOLS, pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = {"http": _PinnedPool, "https": _PinnedTLSPool}

    def ask(
        self,
        url: MissionUrl,
        address: IPv4Address | IPv6Address | str,
        limits: Limits,
        fields: Mapping[str, str],
        body: bytes | None,
    ) -> Response:
        """Send a `PinnedRequest` and return its response with the head read and the body unread. `address` is a name if the proxy resolves.

        Raises:
            MissionFailed: with the exact reason; `ConnectFailed` if another address may work.
            StaleConnection: the server had closed a kept-alive connection; the next call uses another one.
        """
        request = PinnedRequest(url, address, limits, self._way, fields, body)
        token = _REQUEST.set(request)
        try:
            return self.send(request, stream=True)
        finally:
            _REQUEST.reset(token)

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: object, proxies: object = None, cert: object = None
    ) -> HTTPConnectionPool:
        """The connection pool for a checked address and the real host. urllib3 knows of no proxy."""
        del verify, proxies, cert
        assert isinstance(request, PinnedRequest)  # noqa: S101 (narrows the type: `ask` creates no other)
        of_tls = {"server_hostname": request.host, "ssl_context": self._tls, "cert_reqs": "CERT_REQUIRED"}
        pool: HTTPConnectionPool = self.poolmanager.connection_from_host(
            str(request.address), request.port, request.scheme, of_tls
        )
        return pool

    def request_url(self, request: PreparedRequest, proxies: object) -> str:
        """A constant: the connection knows the target."""
        del request, proxies
        return "/"

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Do nothing: the context verifies. requests would add certifi's certificates to it for each connection."""

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """Return the response without parsing cookies, since the worker keeps none."""
        response = Response()
        response.status_code = resp.status
        response.raw = resp
        response.request = req
        return response
