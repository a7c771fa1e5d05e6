"""OAuth tokens: the request for a token, its lifetime, and the effect of a server's failure."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from base64 import b64decode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest

from mission.errors import MissionFailed
from mission.model import Reason
from mission.url import MissionUrl, parse_url
from tests.conftest import wait_for
from worker.fetch import oauth
from worker.fetch.oauth import PATIENCE_SECONDS, Grant, Token
from worker.fetch.wire import Limits, Unreached

SECRET = secrets.token_urlsafe(24)
GRANT = Grant("docs.example.com", parse_url("https://login.example.com/token"), "decoder", SECRET, False, ())


class Clock:
    """The monotonic clock, with jumps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        monkeypatch.setattr(oauth, "monotonic", lambda: monotonic() + self.ahead)

    def limits(self, seconds: float = 60.0) -> Limits:
        return Limits(monotonic() + self.ahead + seconds, 3.0, 10.0)


class Server:
    """Replaces the fetcher's guard: answers with a new token each time, or as scripted."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.asked = 0
        self.expires_in: Any = 3600
        self.failure: MissionFailed | None = None
        self.free = threading.Event()
        self.free.set()

    def post(self, _url: MissionUrl, _fields: Mapping[str, str], _body: bytes, _limits: Limits) -> bytes:
        self.asked += 1
        number = self.asked
        assert self.free.wait(30)
        if self.failure is not None:
            raise self.failure
        return json.dumps(
            {"access_token": f"token-{number}", "token_type": "Bearer", "expires_in": self.expires_in}
        ).encode()

    def field(self, token: Token) -> str:
        return token.field(self.post, self._clock.limits())

    def failing(self, token: Token, reason: Reason, **options: Any) -> MissionFailed:
        """The failure of a token if the server fails for this reason."""
        self.failure = MissionFailed(reason, **options)
        with pytest.raises(MissionFailed) as caught:
            self.field(token)
        return caught.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def server(clock: Clock) -> Server:
    return Server(clock)


@pytest.fixture
def token() -> Token:
    return Token(GRANT)


def test_a_client_proves_itself_by_http_basic_each_part_encoded_as_a_form() -> None:
    grant = replace(GRANT, client_id="a:b c", client_secret="d:%/ä", parameters=(("scope", "read write"),))
    fields, body = grant.request()
    kind, _, login = fields["Authorization"].partition(" ")
    assert kind == "Basic"
    assert [unquote_plus(part) for part in b64decode(login).decode().split(":")] == ["a:b c", "d:%/ä"]
    assert fields["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qsl(body.decode(), strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("scope", "read write"),
    ]


def test_or_in_the_body_where_the_server_wants_that() -> None:
    fields, body = replace(GRANT, secret_in_body=True, parameters=(("audience", "a&b"),)).request()
    assert "Authorization" not in fields
    assert parse_qsl(body.decode(), strict_parsing=True) == [
        *(("grant_type", "client_credentials"), ("audience", "a&b")),
        *(("client_id", "decoder"), ("client_secret", SECRET)),
    ]


def test_a_token_is_kept_and_renewed_a_minute_before_it_ends(server: Server, token: Token, clock: Clock) -> None:
    assert [server.field(token) for _ in range(3)] == ["Bearer token-1"] * 3
    clock.ahead = 3530
    assert server.field(token) == "Bearer token-1"
    clock.ahead = 3545
    assert server.field(token) == "Bearer token-2"
    assert server.asked == 2


@pytest.mark.parametrize("expires_in", [20, "20", 20.5])
def test_a_short_one_is_renewed_halfway(server: Server, token: Token, clock: Clock, expires_in: object) -> None:
    server.expires_in = expires_in
    server.field(token)
    clock.ahead = 9
    assert server.field(token) == "Bearer token-1"
    clock.ahead = 11
    assert server.field(token) == "Bearer token-2"


@pytest.mark.parametrize(
    "answer",
    [
        *(b"", b"<html>", b"[]", b"7", b"null", b"\xff", b"[" * 100_000),
        b'{"access_token": "x"}',
        b'{"token_type": "bearer"}',
        b'{"access_token": "x", "token_type": "mac"}',
        b'{"access_token": "x", "token_type": 7}',
        b'{"access_token": 7, "token_type": "bearer"}',
        b'{"access_token": "", "token_type": "bearer"}',
        b'{"access_token": "x\\r\\nX-More: 1", "token_type": "bearer"}',
        b'{"access_token": "x y", "token_type": "bearer"}',
        b'{"access_token": "\xc3\xa4", "token_type": "bearer"}',
        *(
            b'{"access_token": "x", "token_type": "bearer", "expires_in": %b}' % value
            for value in (b"0", b"-1", b"NaN", b"null", b'"soon"', b"[]", b"1" * 400, b"1" * 5000)
        ),
    ],
)
def test_what_is_no_token_is_refused_for_good(token: Token, clock: Clock, answer: bytes) -> None:
    with pytest.raises(MissionFailed) as caught:
        token.field(lambda *_: answer, clock.limits())
    assert caught.value.reason is Reason.CREDENTIALS_REFUSED


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (Reason.HTTP_CLIENT_ERROR, Reason.CREDENTIALS_REFUSED),
        (Reason.TLS_FAILURE, Reason.CREDENTIALS_REFUSED),
        (Reason.BLOCKED_ADDRESS, Reason.CREDENTIALS_REFUSED),
        (Reason.MALFORMED_RESPONSE, Reason.CREDENTIALS_REFUSED),
        (Reason.BODY_TOO_LARGE, Reason.CREDENTIALS_REFUSED),
        (Reason.HTTP_SERVER_ERROR, Reason.HTTP_SERVER_ERROR),
        (Reason.RATE_LIMITED, Reason.RATE_LIMITED),
        (Reason.CONNECT_TIMEOUT, Reason.CONNECT_TIMEOUT),
        (Reason.DNS_FAILURE, Reason.DNS_FAILURE),
    ],
)
def test_what_may_pass_is_tried_again_and_all_else_means_that_we_are_refused(
    server: Server, token: Token, reason: Reason, told: Reason
) -> None:
    assert server.failing(token, reason).reason is told


def test_that_its_server_was_not_reached_says_nothing_of_the_documents(server: Server, token: Token) -> None:
    server.failure = Unreached(Reason.CONNECT_TIMEOUT)
    with pytest.raises(MissionFailed) as caught:
        server.field(token)
    assert type(caught.value) is MissionFailed


def test_one_asks_while_the_others_wait(server: Server, token: Token) -> None:
    server.free.clear()
    with ThreadPoolExecutor(8) as pool:
        fields = [pool.submit(server.field, token) for _ in range(8)]
        wait_for(lambda: server.asked, what="the first to ask")
        server.free.set()
        assert {field.result(30) for field in fields} == {"Bearer token-1"}
    assert server.asked == 1


def test_who_has_a_good_token_does_not_wait_for_the_new_one(server: Server, token: Token, clock: Clock) -> None:
    server.field(token)
    clock.ahead = 3545
    server.free.clear()
    with ThreadPoolExecutor(1) as pool:
        renewing = pool.submit(server.field, token)
        wait_for(lambda: server.asked == 2, what="the renewal")
        assert server.field(token) == "Bearer token-1"
        server.free.set()
        assert renewing.result(30) == "Bearer token-2"


def test_who_waits_for_a_token_waits_no_longer_than_the_mission_may(server: Server, token: Token) -> None:
    server.free.clear()
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(server.field, token)
        wait_for(lambda: server.asked, what="the first to ask")
        with pytest.raises(MissionFailed) as caught:
            token.field(server.post, Limits(monotonic() + 0.1, 3, 10))
        assert caught.value.reason is Reason.DEADLINE_EXCEEDED
        server.free.set()
        asking.result(30)


def test_a_failure_is_everybodys_for_a_while_and_then_it_is_tried_again(
    server: Server, token: Token, clock: Clock
) -> None:
    assert server.failing(token, Reason.HTTP_SERVER_ERROR).retry_after is None
    for _ in range(5):
        later = server.failing(token, Reason.HTTP_SERVER_ERROR)
        assert later.reason is Reason.HTTP_SERVER_ERROR
        assert later.retry_after is not None
        assert 0 < later.retry_after <= PATIENCE_SECONDS
    assert server.asked == 1
    clock.ahead = PATIENCE_SECONDS + 1
    server.failure = None
    assert server.field(token) == "Bearer token-2"


def test_a_server_that_asks_for_patience_gets_it(server: Server, token: Token, clock: Clock) -> None:
    assert server.failing(token, Reason.RATE_LIMITED, retry_after=100.0).retry_after == 100
    clock.ahead = 99
    server.failing(token, Reason.RATE_LIMITED)
    assert server.asked == 1


def test_a_renewal_that_fails_leaves_the_old_token_in_use_until_it_ends(
    server: Server, token: Token, clock: Clock
) -> None:
    server.field(token)
    server.failure = MissionFailed(Reason.HTTP_CLIENT_ERROR)
    clock.ahead = 3545
    assert [server.field(token) for _ in range(5)] == ["Bearer token-1"] * 5
    assert server.asked == 2
    clock.ahead = 3601
    assert server.failing(token, Reason.HTTP_CLIENT_ERROR).reason is Reason.CREDENTIALS_REFUSED


def test_a_missions_own_deadline_is_nobody_elses(server: Server, token: Token, clock: Clock) -> None:
    server.failure = MissionFailed(Reason.DEADLINE_EXCEEDED)
    with pytest.raises(MissionFailed):
        token.field(server.post, clock.limits(5.0))
    server.failure = None
    assert server.field(token) == "Bearer token-2"


def test_a_server_that_takes_longer_than_it_may_is_left_alone(server: Server, token: Token) -> None:
    assert server.failing(token, Reason.DEADLINE_EXCEEDED).reason is Reason.READ_TIMEOUT
    server.failing(token, Reason.DEADLINE_EXCEEDED)
    assert server.asked == 1


def test_a_token_that_is_refused_is_given_up_but_for_a_new_one(server: Server, token: Token, clock: Clock) -> None:
    field = server.field(token)
    assert not token.refused(field)  # a new one would be refused too
    assert server.field(token) == "Bearer token-1"
    clock.ahead = PATIENCE_SECONDS + 1
    assert token.refused(field)
    assert server.field(token) == "Bearer token-2"
    assert token.refused(field)  # another mission has already given it up
    assert server.field(token) == "Bearer token-2"


def test_that_there_is_no_token_is_logged_once_with_entry_and_reason_alone(
    server: Server, token: Token, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        server.failing(token, Reason.HTTP_CLIENT_ERROR)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        "no token for docs.example.com: http_client_error"
    ]
    assert SECRET not in caplog.text
