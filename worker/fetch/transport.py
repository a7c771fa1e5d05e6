"""The pinned connection: what was checked is what is connected to.

`requests`' adapter over urllib3's pools, each connection of which goes to an address, never to a name. Server name,
certificate and `Host` stay the real host's. Nothing of the environment has a say: no proxies, no netrc, no CA bundle of
another's, no key log.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from socket import AF_INET, AF_INET6, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, socket
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
from worker.fetch.response import StrictResponse
from worker.fetch.tls import TlsSocket
from worker.fetch.wire import Limits, Unreached, Wait, Wire

USER_AGENT = f"mission-decoder/{VERSION}"
MAX_POOLS = 64
NO_FIELDS: Mapping[str, str] = {}

# urllib3 logs targets, at debug for each request and at warning for odd ones. A filter outlasts any logging set-up.
for _name in ("connection", "connectionpool", "poolmanager", "response", "util.retry"):
    logging.getLogger(f"urllib3.{_name}").addFilter(lambda _record: False)


class ConnectFailed(Unreached):
    """Nobody took the connection at this address: another one of the host's may do."""


class PinnedRequest(PreparedRequest):
    """A GET, or with a body a POST, that knows the address it goes to. Its `url` names nothing but that address.

    `fields` are header fields beside its own, or in their place.
    """

    def __init__(
        self,
        url: MissionUrl,
        address: IPv4Address | IPv6Address,
        limits: Limits,
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
        self.method = "GET" if body is None else "POST"
        self.url = f"{url.scheme}://pinned/"
        self.headers = CaseInsensitiveDict(
            {"Host": url.authority, "User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip, deflate"}
        )
        self.headers.update(fields)
        if body is not None:
            self.body = body
            self.headers["Content-Length"] = str(len(body))


# The request that this thread is sending: urllib3 has no way to hand it down to the connection.
_REQUEST: ContextVar[PinnedRequest] = ContextVar("request")


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 at least, certificate and name checked, against `ca_file` or the system's store.

    The system's store is where OpenSSL was built to look, not where SSL_CERT_FILE or SSL_CERT_DIR point; certifi's
    where that is empty. SSLKEYLOGFILE is not read: only Python's ready-made contexts do.

    Raises:
        SettingsError: `ca_file` holds no certificates.
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


def _connect(connection: HTTPConnection, limits: Limits, server_name: str | None, tls: ssl.SSLContext | None) -> Wire:
    """Connect to the connection's host, which is an address, and shake hands if there is TLS.

    Raises:
        ConnectFailed: nobody took the connection.
        Unreached: TLS failed.
        MissionFailed: the deadline left less than the time to connect, and that was not enough.
        ValueError: the host is not an address; nothing was looked up or connected to.
    """
    address = ip_address(connection.host)
    wait = limits.wait(limits.connect)
    until = monotonic() + wait.seconds
    try:
        sock = socket(AF_INET if address.version == 4 else AF_INET6, SOCK_STREAM)
    except OSError:
        # A system without IPv6, say: the host's next address may be IPv4.
        raise ConnectFailed(Reason.CONNECTION_FAILED) from None
    try:
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        sock.settimeout(wait.seconds)
        try:
            sock.connect((str(address), connection.port))
        except TimeoutError:
            raise wait.over(Reason.CONNECT_TIMEOUT, ConnectFailed) from None
        except OSError:
            raise ConnectFailed(Reason.CONNECTION_FAILED) from None
        return Wire(sock if tls is None else _shake_hands(sock, wait, until, server_name, tls), limits)
    except BaseException:
        sock.close()
        raise


def _shake_hands(sock: socket, wait: Wait, until: float, server_name: str | None, tls: ssl.SSLContext) -> TlsSocket:
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
        # ssl.SSLError and CertificateError are among them; ValueError: a name that no certificate can be for.
        raise Unreached(Reason.TLS_FAILURE) from None


class _Pinned(HTTPConnection):
    """What the connections for both schemes share: the wire, the strict response, and the exact target."""

    response_class = StrictResponse
    sock: Any  # a Wire: it stands in for the socket

    def connect(self) -> None:
        """Connect to the address that was checked."""
        self.sock = _connect(self, _REQUEST.get().limits, None, None)

    def request(self, method: str, _url: str, *_args: Any, **options: Any) -> None:  # type: ignore[override]
        """Send the request. The target goes out as it was checked: urllib3 would encode it anew."""
        request = _REQUEST.get()
        if self.sock is None:
            self.connect()
        self.sock.limits = request.limits
        self.sock.requests += 1
        super().request(method, request.target, **options)

    @property
    def is_connected(self) -> bool:
        """Whether another request may go out on it."""
        return self.sock is not None and self.sock.idle


class _PinnedTLS(_Pinned, HTTPSConnection):
    """The same with TLS, for the name of the real host."""

    def connect(self) -> None:
        """Connect to the address that was checked, and check who answers there."""
        self.sock = _connect(self, _REQUEST.get().limits, self.server_hostname, self.ssl_context)
        self.is_verified = True


class _PinnedPool(HTTPConnectionPool):
    ConnectionCls: type[Any] = _Pinned


class _PinnedTLSPool(HTTPSConnectionPool):
    ConnectionCls: type[Any] = _PinnedTLS


class PinnedAdapter(HTTPAdapter):
    """Sends requests to checked addresses, and keeps connections alive for each (scheme, host, address, port).

    Args:
        tls: the context for https.
        connections: kept for each of the `MAX_POOLS` most recent places.
    """

    def __init__(self, tls: ssl.SSLContext, *, connections: int) -> None:
        self._tls = tls
        super().__init__(pool_connections=MAX_POOLS, pool_maxsize=connections)
        self.poolmanager.pool_classes_by_scheme = {"http": _PinnedPool, "https": _PinnedTLSPool}

    def ask(
        self,
        url: MissionUrl,
        address: IPv4Address | IPv6Address,
        limits: Limits,
        fields: Mapping[str, str],
        body: bytes | None,
    ) -> Response:
        """The response to a request as `PinnedRequest` has it, its head read and its body not.

        Raises:
            MissionFailed: with the exact reason; `ConnectFailed` where another address may do.
            StaleConnection: a kept connection was gone; the next call uses another one.
        """
        request = PinnedRequest(url, address, limits, fields, body)
        token = _REQUEST.set(request)
        try:
            return self.send(request, stream=True)
        finally:
            _REQUEST.reset(token)

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: object, proxies: object = None, cert: object = None
    ) -> HTTPConnectionPool:
        """The pool: for a checked address, and for the real host. There is no proxy."""
        del verify, proxies, cert
        assert isinstance(request, PinnedRequest)  # noqa: S101 (narrows the type: `ask` makes nothing else)
        of_tls = {"server_hostname": request.host, "ssl_context": self._tls, "cert_reqs": "CERT_REQUIRED"}
        pool: HTTPConnectionPool = self.poolmanager.connection_from_host(
            str(request.address), request.port, request.scheme, of_tls
        )
        return pool

    def request_url(self, request: PreparedRequest, proxies: object) -> str:
        """Nothing: the connection knows the target."""
        del request, proxies
        return "/"

    def cert_verify(self, conn: object, url: object, verify: object, cert: object) -> None:
        """Nothing: the context verifies. requests would add certifi's certificates to it, for each connection."""

    def build_response(self, req: PreparedRequest, resp: BaseHTTPResponse) -> Response:
        """The response without cookies: none are kept, so none are parsed."""
        response = Response()
        response.status_code = resp.status
        response.raw = resp
        response.request = req
        return response
