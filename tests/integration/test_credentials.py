"""Documents behind a login: fetched with what the file says, from real servers over TLS, while file, tokens and hosts change."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.certificates import Authority
from tests.servers.fetching import NAME, Fetching, fetching
from tests.servers.misbehaving import DOCUMENT, MisbehavingServer
from tests.servers.tokens import TokenServer
from worker.fetch import oauth
from worker.fetch.fetcher import Reach
from worker.keys import refresh

LOGIN = "login.example"
SECRET = secrets.token_urlsafe(24)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority) -> Iterator[MisbehavingServer]:
    with MisbehavingServer(authority.context(NAME)) as server:
        yield server


@pytest.fixture
def tokens(authority: Authority) -> Iterator[TokenServer]:
    with TokenServer(authority.context(LOGIN), prefix=secrets.token_hex(16)) as tokens:
        yield tokens


class Login:
    """A file of credentials for one server, and a fetcher that has it."""

    def __init__(self, file: Path, authority: Authority, server: MisbehavingServer, tokens: TokenServer) -> None:
        self.file = file
        self._authority = authority
        self._server = server
        self._tokens = tokens
        file.touch(0o600)

    def headers(self, **fields: str) -> None:
        lines = "".join(f'{name} = "{value}"\n' for name, value in fields.items())
        self.file.write_text(f'["{NAME}:{self._server.port}".headers]\n{lines}')

    def oauth2(self, **more: str) -> None:
        table = {"token-url": self._tokens.url(LOGIN), "client-id": "decoder", "client-secret": SECRET} | more
        lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items())
        self.file.write_text(f'["{NAME}:{self._server.port}".oauth2]\n{lines}')

    def fetching(self, **options: Any) -> AbstractContextManager[Fetching]:
        hosts = (f"{NAME}:{self._server.port}", f"{LOGIN}:{self._tokens.port}")
        defaults: dict[str, Any] = {
            "allowed_hosts": hosts,
            "credentials": self.file,
            "ca_file": self._authority.ca_file,
        }
        return fetching(**(defaults | options))


@pytest.fixture
def login(tmp_path: Path, authority: Authority, server: MisbehavingServer, tokens: TokenServer) -> Login:
    return Login(tmp_path / "credentials.toml", authority, server, tokens)


def failure(rig: Fetching, url: str) -> MissionFailed:
    with pytest.raises(MissionFailed) as caught:
        rig.fetch(url)
    return caught.value


def test_a_document_behind_a_header_is_fetched_with_it_alone(login: Login, server: MisbehavingServer) -> None:
    server.welcome = {f"X-Api-Key: {SECRET}"}
    login.headers(**{"X-Api-Key": SECRET})
    with login.fetching() as rig:
        assert rig.fetch(server.url("/guarded", NAME)).body == DOCUMENT
    with login.fetching(credentials=None) as rig:
        assert failure(rig, server.url("/guarded", NAME)).reason is Reason.HTTP_CLIENT_ERROR


@pytest.mark.parametrize(("code", "reason"), [(401, None), (403, None), (404, Reason.HTTP_CLIENT_ERROR)])
def test_a_refusal_of_credentials_that_were_sent_has_a_reason_of_its_own_and_is_not_tried_again(
    login: Login, server: MisbehavingServer, code: int, reason: Reason | None
) -> None:
    login.headers(Cookie="session=old")
    with login.fetching(fetch_attempts=3) as rig:
        assert failure(rig, server.url(f"/guarded?code={code}", NAME)).reason is (reason or Reason.CREDENTIALS_REFUSED)
        assert rig.said == [(f"https://{NAME}:{server.port}", Reach.REACHED)]
    assert len(server.heads) == 1


def test_a_new_file_is_used_on_the_connection_that_was_kept_with_the_old_ones(
    login: Login, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "REFRESH_SECONDS", 0.0)
    login.headers(Authorization="Bearer old")
    server.welcome = {"Authorization: Bearer old"}
    with login.fetching() as rig:
        assert rig.fetch(server.url("/guarded", NAME)).body == DOCUMENT
        server.welcome = {"Authorization: Bearer new"}
        login.headers(Authorization="Bearer new")
        assert rig.fetch(server.url("/guarded", NAME)).body == DOCUMENT
        login.headers(Authorization="Bearer half")
        login.file.chmod(0o644)
        assert rig.fetch(server.url("/guarded", NAME)).body == DOCUMENT
    assert server.connections == 1


@pytest.mark.parametrize("place", ["header", "body"])
def test_a_document_behind_oauth_is_fetched_with_a_token_that_is_asked_for_once(
    login: Login, server: MisbehavingServer, tokens: TokenServer, place: str
) -> None:
    login.oauth2(**{"secret-in": place, "scope": "read"})
    server.welcome = {f"Authorization: Bearer {tokens.prefix}1"}
    with login.fetching() as rig, ThreadPoolExecutor(4) as pool:
        documents = list(pool.map(rig.fetch, [server.url("/guarded", NAME)] * 12))
    assert [document.body for document in documents] == [DOCUMENT] * 12
    ((fields, form),) = tokens.asked
    assert form["grant_type"] == "client_credentials"
    assert form["scope"] == "read"
    assert ("Authorization" in fields, "client_secret" in form) == (place == "header", place == "body")


def test_a_token_that_ended_before_its_time_is_renewed_once_and_the_document_asked_for_again(
    login: Login, server: MisbehavingServer, tokens: TokenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oauth, "PATIENCE_SECONDS", 0.0)
    login.oauth2()
    with login.fetching() as rig:
        server.welcome = {f"Authorization: Bearer {tokens.prefix}1"}
        rig.fetch(server.url("/guarded", NAME))
        server.welcome = {f"Authorization: Bearer {tokens.prefix}2"}
        assert rig.fetch(server.url("/guarded", NAME)).body == DOCUMENT
        server.welcome = set()
        assert failure(rig, server.url("/guarded", NAME)).reason is Reason.CREDENTIALS_REFUSED
    assert len(tokens.issued) == 3
    assert len(server.heads) == 5


def test_a_server_that_takes_no_token_does_not_have_one_made_for_each_mission(
    login: Login, server: MisbehavingServer, tokens: TokenServer
) -> None:
    login.oauth2()
    with login.fetching() as rig:
        for _ in range(5):
            assert failure(rig, server.url("/guarded", NAME)).reason is Reason.CREDENTIALS_REFUSED
    assert len(tokens.issued) == 1


ENDLESS = b"x" * (oauth.MAX_ANSWER_BYTES + 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (TokenServer.say(401, error="invalid_client", error_description=SECRET), Reason.CREDENTIALS_REFUSED),
        (TokenServer.say(400, error="invalid_scope"), Reason.CREDENTIALS_REFUSED),
        (TokenServer.say(200, error="invalid_client"), Reason.CREDENTIALS_REFUSED),
        ((200, {}, ENDLESS), Reason.CREDENTIALS_REFUSED),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), Reason.CREDENTIALS_REFUSED),
        ((503, {"Retry-After": "1800"}, b""), Reason.HTTP_SERVER_ERROR),
        ((429, {}, b""), Reason.RATE_LIMITED),
    ],
)
def test_a_token_server_that_fails_is_asked_once_and_the_documents_host_not_at_all(
    login: Login, server: MisbehavingServer, tokens: TokenServer, answer: Any, reason: Reason
) -> None:
    tokens.answer = lambda _number: answer
    login.oauth2()
    with login.fetching() as rig:
        for _ in range(3):
            refusal = failure(rig, server.url("/guarded", NAME))
            assert refusal.reason is reason
            assert SECRET not in repr((refusal, refusal.__context__, refusal.__cause__))
        assert {reach for _, reach in rig.said} == {Reach.UNKNOWN}
    assert len(tokens.asked) == 1
    assert server.heads == []


def test_a_token_server_that_is_away_is_not_the_documents_host_being_away(
    login: Login, server: MisbehavingServer
) -> None:
    login.oauth2(**{"token-url": f"https://{LOGIN}:2/token"})
    hosts = (f"{NAME}:{server.port}", f"{LOGIN}:2")
    with login.fetching(allowed_hosts=hosts) as rig:
        assert failure(rig, server.url("/guarded", NAME)).reason is Reason.CONNECTION_FAILED
        assert rig.said == [(f"https://{NAME}:{server.port}", Reach.UNKNOWN)]


def test_a_token_servers_address_is_checked_as_any_other(
    login: Login, server: MisbehavingServer, tokens: TokenServer
) -> None:
    login.oauth2()
    inside = {NAME: ["127.0.0.1"], LOGIN: ["127.0.0.1", "10.0.0.1"]}
    with login.fetching(lookup=lambda host, _port: inside[host]) as rig:
        assert failure(rig, server.url("/guarded", NAME)).reason is Reason.CREDENTIALS_REFUSED
    assert tokens.asked == []
