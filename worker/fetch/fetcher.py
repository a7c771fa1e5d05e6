"""The fetcher: fetches a document from an untrusted URL, within limits of time and size and under the policy.

One deadline covers DNS, connecting, TLS, all reads, redirects, retries and the waits between them. The fetcher follows redirects
itself: each hop passes the whole policy, takes a slot at its host and gets its own credentials. It never reads the body of a
refusal or a redirect.
"""

from __future__ import annotations

import io
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from enum import Enum
from ipaddress import IPv4Address, IPv6Address
from threading import Lock
from time import time

from requests import RequestException, Response
from urllib3.exceptions import HTTPError

from mission.errors import MissionFailed
from mission.model import Reason
from mission.url import MissionUrl, parse_url
from worker.fetch.credentials import Credentials
from worker.fetch.decoding import LARGE_CODINGS, content_codings, decoded
from worker.fetch.dns import Resolver
from worker.fetch.oauth import MAX_ANSWER_BYTES
from worker.fetch.policy import UrlPolicy
from worker.fetch.proxy import NoWayOut, Proxy
from worker.fetch.transport import NO_FIELDS, PinnedAdapter, tls_context
from worker.fetch.wire import CHUNK, ConnectFailed, Limits, StaleConnection, Unreached
from worker.observe import metrics
from worker.settings import WorkerSettings

MAX_ADDRESSES = 3
# A document up to this size, in bytes, needs no share of the memory.
FREE_BYTES = 128 * 1024
MAX_REMEMBERED_HOSTS = 1024
MAX_RETRY_AFTER = 3600.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED = 401
_REFUSALS = frozenset({_UNAUTHORIZED, 403})
_STATUS_REASONS = {
    206: Reason.MALFORMED_RESPONSE,  # the request had no range
    408: Reason.READ_TIMEOUT,
    425: Reason.HTTP_SERVER_ERROR,
    429: Reason.RATE_LIMITED,
}
# A fetch that ends with one of these got no response from the host, and the host need not be the cause.
_NOTHING_SAID = frozenset(
    {
        Reason.DEADLINE_EXCEEDED,
        Reason.DNS_FAILURE,
        Reason.BLOCKED_ADDRESS,
        Reason.PROXY_FAILED,
        Reason.PROXY_LOGIN_REFUSED,
    }
)
_CLASS_REASONS = {3: Reason.MALFORMED_RESPONSE, 4: Reason.HTTP_CLIENT_ERROR, 5: Reason.HTTP_SERVER_ERROR}

_Place = tuple[str, int]
_Room = Callable[[int, float], object]
_Address = IPv4Address | IPv6Address | str  # a name if the proxy resolves


class Reach(Enum):
    """What a fetch showed about a host."""

    REACHED = "reached"
    UNREACHED = "unreached"
    UNKNOWN = "unknown"  # the policy or the mission's own limits ended the fetch too early to know


@dataclass(slots=True)
class Visit:
    """A slot held at a host. The fetch updates both attributes; the final values count.

    Attributes:
        reach: whether it reached the host.
        way_out: whether it could reach any host at all, for example through the proxy.
    """

    reach: Reach = Reach.UNKNOWN
    way_out: Reach = Reach.UNKNOWN


@dataclass(frozen=True, slots=True, repr=False)
class Document:
    """A fetched document: the decoded body, the declared content type, and the number of bytes on the wire."""

    body: bytes
    content_type: str | None
    wire_bytes: int


_Visiting = Callable[[MissionUrl], AbstractContextManager[Visit]]


class Fetcher:
    """Fetches documents for many threads. Connections stay alive between fetches.

    Args:
        settings: timeouts, limits and counts, and the CA file.
        policy: decides which URLs and addresses are allowed.
        resolver: resolves names to addresses.

    Raises:
        SettingsError: the CA file contains no certificates, or the file of credentials is invalid.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        policy: UrlPolicy,
        resolver: Resolver,
    ) -> None:
        self._settings = settings
        self._policy = policy
        self._resolver = resolver
        tls = tls_context(settings.ca_file)
        self._adapter = PinnedAdapter(
            tls, connections=settings.host_concurrency, proxy=Proxy.from_settings(settings, tls)
        )
        self._answered = _Answered()
        self._credentials = Credentials(settings, policy)
        metrics.BAD_CREDENTIALS.set_function(self._credentials.bad)  # a scrape re-reads the file, also without traffic

    def fetch(
        self,
        url: MissionUrl,
        *,
        deadline: float,
        visiting: _Visiting = lambda _url: nullcontext(Visit()),
        again: Callable[[Callable[[], Document]], Document] = lambda try_: try_(),
        room: _Room = lambda _bytes, _deadline: None,
    ) -> Document:
        """Fetch the document at `url`.

        Args:
            url: the URL to fetch.
            deadline: the time limit for everything, on the monotonic clock.
            visiting: context that holds a slot at a URL's host; may refuse with `host_busy` or `host_paused`.
            again: calls the given function and decides about retries. The visit to the URL's own host continues meanwhile.
            room: called with the document's maximum size in bytes and the deadline, before more than `FREE_BYTES` of it are
                in memory; it may wait, and may refuse with `memory_busy`.

        Raises:
            MissionFailed: with the exact reason, and `retry_after` if the server asked for it.
            InvalidMission: a redirect led to an invalid URL.
        """
        # A host gets at most half of the deadline for connecting. Otherwise the deadline would always cut that time short.
        connect = min(self._settings.connect_timeout, self._settings.deadline / 2)
        limits = Limits(deadline, connect, self._settings.read_timeout)
        with visiting(url) as visit:
            return again(lambda: self._follow(url, limits, visiting, visit, room))

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._adapter.close()

    def _follow(self, url: MissionUrl, limits: Limits, visiting: _Visiting, own: Visit, room: _Room) -> Document:
        origin = url.origin
        for _ in range(self._settings.max_redirects + 1):
            self._policy.check(url)
            with nullcontext(own) if url.origin == origin else visiting(url) as visit:
                found = self._hop(url, limits, visit, room)
            if isinstance(found, Document):
                return found
            url = found
        raise MissionFailed(Reason.TOO_MANY_REDIRECTS)

    def _hop(self, url: MissionUrl, limits: Limits, visit: Visit, room: _Room) -> Document | MissionUrl:
        """The document at `url`, or the target of its redirect. `url` has passed the policy."""
        credential = self._credentials.of(url)
        fields = NO_FIELDS if credential is None else credential.fields(self._post, limits)
        response = self._reached(url, limits, visit, fields)
        if credential is not None and response.status_code == _UNAUTHORIZED and credential.refused(fields):
            response.close()
            response = self._reached(url, limits, visit, credential.fields(self._post, limits))
        try:
            if response.status_code in _REDIRECTS:
                return _location(response, url)
            if credential is not None and response.status_code in _REFUSALS:
                raise MissionFailed(Reason.CREDENTIALS_REFUSED)
            return self._document(response, limits, room, int(self._settings.max_bytes))
        finally:
            response.close()

    def _post(self, url: MissionUrl, fields: Mapping[str, str], body: bytes, limits: Limits) -> bytes:
        """Post a small form and return the body of a successful response, without following redirects. `url` has passed the policy."""
        response = self._get(url, limits, fields, body)
        try:
            return self._document(response, limits, lambda _bytes, _deadline: None, MAX_ANSWER_BYTES).body
        finally:
            response.close()

    def _reached(self, url: MissionUrl, limits: Limits, visit: Visit, fields: Mapping[str, str]) -> Response:
        """Return the response, and record in the visit whether there was one."""
        try:
            response = self._get(url, limits, fields)
        except NoWayOut:
            visit.way_out = Reach.UNREACHED
            raise
        except Unreached as failure:
            visit.reach = Reach.UNREACHED
            visit.way_out = Reach.UNKNOWN if failure.reason is Reason.DNS_FAILURE else Reach.REACHED
            raise
        except MissionFailed as failure:
            if failure.reason not in _NOTHING_SAID:
                visit.reach = visit.way_out = Reach.REACHED
            raise
        visit.reach = visit.way_out = Reach.REACHED
        return response

    def _get(self, url: MissionUrl, limits: Limits, fields: Mapping[str, str], body: bytes | None = None) -> Response:
        """The response from the first of the host's addresses that accepts a connection. All of them are checked.

        A proxy that resolves gets the host unchanged; an address in the URL was checked with the URL.
        """
        if self._settings.proxy_resolves:
            return self._ask(url, url.host.strip("[]"), limits, fields, body)
        addresses = self._policy.addresses(url, self._resolver, limits.wait(limits.connect))
        *others, last = self._answered.first((url.host, url.port), addresses)[:MAX_ADDRESSES]
        for address in others:
            try:
                share = replace(limits, connect=limits.connect / (len(others) + 1))
                return self._ask(url, address, share, fields, body)
            except ConnectFailed:
                continue
        return self._ask(url, last, limits, fields, body)

    def _ask(
        self, url: MissionUrl, address: _Address, limits: Limits, fields: Mapping[str, str], body: bytes | None
    ) -> Response:
        while True:
            try:
                response = self._adapter.ask(url, address, limits, fields, body)
            except StaleConnection:
                # The server had closed a kept-alive connection: not a failure of this try, and one such connection less.
                continue
            except (RequestException, HTTPError):
                # Wire and response raise the exact reason; these are errors of the libraries themselves, and contain URLs.
                raise MissionFailed(Reason.CONNECTION_FAILED) from None
            self._answered.remember((url.host, url.port), address)
            return response

    def _document(self, response: Response, limits: Limits, room: _Room, most: int) -> Document:
        headers = response.raw.headers
        failure = _STATUS_REASONS.get(response.status_code) or _CLASS_REASONS.get(response.status_code // 100)
        if failure is not None:
            raise MissionFailed(failure, retry_after=parse_retry_after(headers.get("Retry-After")))
        length = response.raw.length_remaining
        if (length or 0) > most:
            raise MissionFailed(Reason.BODY_TOO_LARGE)
        codings = content_codings(headers.getlist("Content-Encoding"))
        size = most if codings or length is None else length

        def check(held: int) -> None:
            limits.remaining()
            if held > FREE_BYTES:
                room(size, limits.deadline)

        if not LARGE_CODINGS.isdisjoint(codings):
            room(size, limits.deadline)
        body = io.BytesIO()
        for piece in decoded(_chunks(response), codings, limit=most, check=check):
            body.write(piece)
        return Document(body.getvalue(), headers.get("Content-Type"), response.raw.tell())


class _Answered:
    """Remembers which of a host's addresses accepted the last connection, and puts it first to reuse its connections."""

    def __init__(self) -> None:
        self._last: OrderedDict[_Place, _Address] = OrderedDict()
        self._lock = Lock()

    def first(self, place: _Place, addresses: Sequence[_Address]) -> list[_Address]:
        known = self._last.get(place)
        return sorted(addresses, key=lambda address: address != known)

    def remember(self, place: _Place, address: _Address) -> None:
        if self._last.get(place) == address:
            return
        with self._lock:
            self._last[place] = address
            self._last.move_to_end(place)
            if len(self._last) > MAX_REMEMBERED_HOSTS:
                self._last.popitem(last=False)


def _chunks(response: Response) -> Iterator[bytes]:
    """The body from the wire, with its chunks joined and its content codings not decoded."""
    while chunk := response.raw.read1(CHUNK, decode_content=False):
        yield chunk


def _location(response: Response, base: MissionUrl) -> MissionUrl:
    """The target of a redirect. The field is decoded as UTF-8 if possible, as in browsers."""
    locations = response.raw.headers.getlist("Location")
    if len(locations) != 1:
        raise MissionFailed(Reason.MALFORMED_RESPONSE)
    try:
        text = locations[0].encode("latin-1").decode()
    except UnicodeDecodeError:
        text = locations[0]
    return parse_url(text, base)


_SECONDS = re.compile(r"[0-9]{1,10}")


def parse_retry_after(value: str | None) -> float | None:
    """The seconds of a `Retry-After` field, up to `MAX_RETRY_AFTER` (RFC 9110, section 10.2.3); None if it is missing or invalid."""
    if value is None:
        return None
    if _SECONDS.fullmatch(value):
        return min(float(value), MAX_RETRY_AFTER)
    try:
        date = parsedate_to_datetime(value)
        # A date without a time zone is in UTC, the only zone of HTTP.
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
