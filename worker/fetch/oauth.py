"""Access tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4): requests, cache, and renewal before expiry.

This module builds requests and parses answers itself instead of using oauthlib. There, the environment decides whether TLS,
scope and token type matter, an answer that is not JSON is parsed as a form, and exceptions contain the token. The tests use
oauthlib as the server.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from threading import Lock
from time import monotonic
from urllib.parse import quote_plus, urlencode

from mission.errors import MissionFailed
from mission.model import Reason
from mission.url import MissionUrl
from worker.fetch.wire import Limits

log = logging.getLogger("decoder.credentials")

MAX_ANSWER_BYTES = 64 * 1024
# The worker renews a token this many seconds before its expiry, or after half of its lifetime if that is later.
RENEW_BEFORE_SECONDS = 60.0
# Assumed lifetime if the server does not state it (RFC 6749, section 5.1, only recommends it).
UNTOLD_SECONDS = 300.0
# A failure applies to all requests in this time. After a 401, a new token makes sense only if the old one is older than this.
PATIENCE_SECONDS = 10.0

# Sends a form to a URL through the fetcher's own guard, and returns the body of a successful response.
Post = Callable[[MissionUrl, Mapping[str, str], bytes, Limits], bytes]

_TOKEN = re.compile(r"[\x21-\x7e]+")  # RFC 6749, appendix A.12, without its space


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """The parameters of a token request.

    Args:
        entry: the allowlist entry, for the log.
        token_url: the URL of the token server.
        client_id: the id of the client.
        client_secret: its secret.
        secret_in_body: send both as form fields, not by HTTP's basic scheme (RFC 6749, section 2.3.1).
        parameters: additional form fields: the scope, and others that a server requires, like `audience`.
    """

    entry: str
    token_url: MissionUrl
    client_id: str
    client_secret: str
    secret_in_body: bool
    parameters: tuple[tuple[str, str], ...]

    def request(self) -> tuple[dict[str, str], bytes]:
        """Header fields and body of the request."""
        form = [("grant_type", "client_credentials"), *self.parameters]
        fields = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self.secret_in_body:
            form += [("client_id", self.client_id), ("client_secret", self.client_secret)]
        else:
            # Each is encoded before a colon joins them, since each may contain a colon.
            login = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            fields["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        return fields, urlencode(form).encode()


@dataclass(frozen=True, slots=True, repr=False)
class _Held:
    """A token as sent, and its times on the monotonic clock."""

    field: str = ""
    asked_at: float = 0.0
    renew_at: float = 0.0
    ends_at: float = 0.0


class Token:
    """The token of a grant, shared by many threads. One thread renews it; while the old token is valid, the others do not wait."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._renewing = Lock()
        self._held = _Held()
        self._failed_for = Reason.CREDENTIALS_REFUSED
        self._failed_until = 0.0

    def field(self, post: Post, limits: Limits) -> str:
        """The value of an Authorization field (RFC 6750, section 2.1).

        Raises:
            MissionFailed: no token is available: for a transient reason, else `credentials_refused`. The same failure applies
                to all calls within the next `PATIENCE_SECONDS`.
        """
        held, now = self._held, monotonic()
        if now < held.renew_at:
            return held.field
        good = now < held.ends_at
        if not self._renewing.acquire(timeout=0 if good else limits.remaining()):
            if good:
                return held.field
            raise MissionFailed(Reason.DEADLINE_EXCEEDED)
        try:
            return self._renewed(post, limits)
        finally:
            self._renewing.release()

    def refused(self, field: str) -> bool:
        """Record that a server answered 401 to this token. Returns whether a new token may help: not if this one is brand new."""
        held = self._held
        if held.field == field:
            if monotonic() - held.asked_at < PATIENCE_SECONDS:
                return False
            self._held = _Held()
        return True

    def _renewed(self, post: Post, limits: Limits) -> str:
        held, now = self._held, monotonic()
        if now < held.renew_at:  # another thread has renewed it meanwhile
            return held.field
        try:
            if now < self._failed_until:
                raise MissionFailed(self._failed_for, retry_after=self._failed_until - now)
            held = self._held = self._ask(post, limits)
        except MissionFailed:
            if monotonic() >= held.ends_at:
                raise
        return held.field

    def _ask(self, post: Post, limits: Limits) -> _Held:
        asked_at = monotonic()
        # The token server's time limit for the whole answer: a slow server does not use up more of a mission's time.
        until = asked_at + limits.connect + limits.read
        own = replace(limits, deadline=min(until, limits.deadline))
        try:
            value, seconds = _read(post(self._grant.token_url, *self._grant.request(), own))
        except MissionFailed as failure:
            reason, retry_after = failure.reason, failure.retry_after
        else:
            renew_in = max(seconds - RENEW_BEFORE_SECONDS, seconds / 2)
            return _Held(f"Bearer {value}", asked_at, asked_at + renew_in, asked_at + seconds)
        if reason is Reason.DEADLINE_EXCEEDED:
            # The mission's own deadline says nothing about the server: the next mission's may suffice.
            if limits.deadline <= until:
                raise MissionFailed(reason)
            reason = Reason.READ_TIMEOUT
        log.warning("no token for %s: %s", self._grant.entry, reason.value)
        self._failed_for = reason if reason.transient else Reason.CREDENTIALS_REFUSED
        self._failed_until = monotonic() + max(PATIENCE_SECONDS, retry_after or 0.0)
        # A plain MissionFailed: an unreachable token server says nothing about the document's host.
        raise MissionFailed(self._failed_for, retry_after=retry_after)


def _read(body: bytes) -> tuple[str, float]:
    """The token in an answer, and its lifetime in seconds (RFC 6749, section 5.1).

    Raises:
        MissionFailed: it contains no bearer token (`malformed_response`).
    """
    try:
        answer = json.loads(body)
        token, kind = answer["access_token"], answer["token_type"].lower()
        seconds = float(answer.get("expires_in", UNTOLD_SECONDS))  # some servers send it as text
        if kind == "bearer" and _TOKEN.fullmatch(token) and seconds > 0:
            return token, seconds
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    raise MissionFailed(Reason.MALFORMED_RESPONSE)
