"""Access tokens by OAuth 2.0 client credentials (RFC 6749, section 4.4): asked for, kept, and renewed before they end.

Composed and read here, not by oauthlib: there the environment decides whether TLS, the scope and the type matter, an answer
that is no JSON is taken for a form, and exceptions hold the token. It is the server that the tests have this talk to.
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
# A token is renewed so many seconds before it ends, or when half of its life is over where that is later.
RENEW_BEFORE_SECONDS = 60.0
# How long one lasts whose server does not say it (RFC 6749, section 5.1, only recommends to).
UNTOLD_SECONDS = 300.0
# So long a failure is everybody's who asks, and so old a token must be for a 401 to mean that another one may do.
PATIENCE_SECONDS = 10.0

# Sends a form to a URL by the fetcher's own guard, and brings the body of a good answer.
Post = Callable[[MissionUrl, Mapping[str, str], bytes, Limits], bytes]

_TOKEN = re.compile(r"[\x21-\x7e]+")  # RFC 6749, appendix A.12, without its space


@dataclass(frozen=True, slots=True, repr=False)
class Grant:
    """What a token is asked for with.

    Args:
        entry: whose token it is, for the log.
        token_url: where.
        client_id: who asks.
        client_secret: what proves it.
        secret_in_body: the two go as fields of the form, not by HTTP's basic scheme (RFC 6749, section 2.3.1).
        parameters: further fields of the form: the scope, and what a server wants beside it, like `audience`.
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
            # Each is encoded before the colon joins them: it may hold one.
            login = f"{quote_plus(self.client_id)}:{quote_plus(self.client_secret)}"
            fields["Authorization"] = f"Basic {b64encode(login.encode()).decode()}"
        return fields, urlencode(form).encode()


@dataclass(frozen=True, slots=True, repr=False)
class _Held:
    """A token as it goes out, and its times on the monotonic clock."""

    field: str = ""
    asked_at: float = 0.0
    renew_at: float = 0.0
    ends_at: float = 0.0


class Token:
    """The token of a grant, for many threads: one of them renews it, and who has a good one does not wait for that."""

    def __init__(self, grant: Grant) -> None:
        self._grant = grant
        self._renewing = Lock()
        self._held = _Held()
        self._failed_for = Reason.CREDENTIALS_REFUSED
        self._failed_until = 0.0

    def field(self, post: Post, limits: Limits) -> str:
        """The value of an Authorization field (RFC 6750, section 2.1).

        Raises:
            MissionFailed: there is no token: for a reason that may pass, else `credentials_refused`. So it is for all who
                ask within the next `PATIENCE_SECONDS`.
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
        """A server answered 401 to this token. Whether another one may do: it is not brand new."""
        held = self._held
        if held.field == field:
            if monotonic() - held.asked_at < PATIENCE_SECONDS:
                return False
            self._held = _Held()
        return True

    def _renewed(self, post: Post, limits: Limits) -> str:
        held, now = self._held, monotonic()
        if now < held.renew_at:  # somebody else has renewed it meanwhile
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
        # A server has so long for all of it: one that drips uses up no mission's time but what is less.
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
            # The mission's own says nothing about the server: the next one's may suffice.
            if limits.deadline <= until:
                raise MissionFailed(reason)
            reason = Reason.READ_TIMEOUT
        log.warning("no token for %s: %s", self._grant.entry, reason.value)
        self._failed_for = reason if reason.transient else Reason.CREDENTIALS_REFUSED
        self._failed_until = monotonic() + max(PATIENCE_SECONDS, retry_after or 0.0)
        # Of a plain kind: that the token's server was not reached says nothing about the document's.
        raise MissionFailed(self._failed_for, retry_after=retry_after)


def _read(body: bytes) -> tuple[str, float]:
    """The token of an answer, and for how many seconds it is good (RFC 6749, section 5.1).

    Raises:
        MissionFailed: there is no bearer token in it (`malformed_response`).
    """
    try:
        answer = json.loads(body)
        token, kind = answer["access_token"], answer["token_type"].lower()
        seconds = float(answer.get("expires_in", UNTOLD_SECONDS))  # some send it as text
        if kind == "bearer" and _TOKEN.fullmatch(token) and seconds > 0:
            return token, seconds
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        pass
    raise MissionFailed(Reason.MALFORMED_RESPONSE)
