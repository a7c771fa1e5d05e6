"""OAuth 2.0 against an independent implementation: oauthlib is the authorization server, and its client sends the same requests."""

from __future__ import annotations

import secrets
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from oauthlib.oauth2 import BackendApplicationClient, BackendApplicationServer, RequestValidator

from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.certificates import Authority
from tests.servers.fetching import NAME, fetching
from tests.servers.misbehaving import DOCUMENT, MisbehavingServer
from tests.servers.tokens import Answer, TokenServer

LOGIN = "login.example"
CLIENT = "decoder:a b"  # characters that need encoding to stay distinct
SECRET = secrets.token_urlsafe(24) + "%:/ +"


class Validator(RequestValidator):  # type: ignore[misc]  # oauthlib has no types
    """A validator that knows one client with read scope."""

    def __init__(self) -> None:
        self.issued: list[str] = []

    def authenticate_client(self, request: Any, *_: object, **__: object) -> bool:
        kind, _space, login = request.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            client, secret = map(unquote_plus, b64decode(login).decode().split(":"))
        else:
            client, secret = request.client_id, request.client_secret
        request.client = SimpleNamespace(client_id=client)
        return (client, secret) == (CLIENT, SECRET)

    def validate_grant_type(self, _client_id: str, grant_type: str, *_: object, **__: object) -> bool:
        return grant_type == "client_credentials"

    def get_default_scopes(self, *_: object, **__: object) -> list[str]:
        return ["read"]

    def validate_scopes(self, _client_id: str, scopes: list[str], *_: object, **__: object) -> bool:
        return scopes == ["read"]

    def save_bearer_token(self, token: dict[str, Any], *_: object, **__: object) -> None:
        self.issued.append(token["access_token"])


class Oauthlib:
    """A token server run by oauthlib."""

    def __init__(self, tokens: TokenServer) -> None:
        self._tokens = tokens
        self.validator = Validator()
        self._endpoint = BackendApplicationServer(self.validator)
        self.bodies: list[str] = []
        tokens.answer = self._answer

    def _answer(self, _number: int) -> Answer:
        fields, _form = self._tokens.asked[-1]
        answer = self._endpoint.create_token_response(self._tokens.url(LOGIN), "POST", self._tokens.body, fields)
        headers, body, status = answer
        self.bodies.append(body)
        return status, headers, body.encode()


@pytest.mark.parametrize("place", ["header", "body"])
@pytest.mark.parametrize("scope", ["", "read"])
@pytest.mark.parametrize("secret", [SECRET, SECRET[:-1]], ids=["right", "wrong"])
def test_its_server_hands_us_a_token_for_the_right_secret_alone(
    place: str, scope: str, secret: str, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    with (
        TokenServer(authority.context(LOGIN)) as tokens,
        MisbehavingServer(authority.context(NAME)) as server,
    ):
        other = Oauthlib(tokens)
        file = tmp_path / "credentials.toml"
        file.touch(0o600)
        file.write_text(
            f"""["{NAME}:{server.port}".oauth2]\ntoken-url = "{tokens.url(LOGIN)}"\nclient-id = "{CLIENT}"\n"""
            f"""client-secret = "{secret}"\nsecret-in = "{place}"\n{f'scope = "{scope}"' if scope else ""}\n"""
        )
        hosts = (f"{NAME}:{server.port}", f"{LOGIN}:{tokens.port}")
        with fetching(allowed_hosts=hosts, credentials=file, ca_file=authority.ca_file) as rig:
            if secret != SECRET:
                with pytest.raises(MissionFailed) as caught:
                    rig.fetch(server.url("/ok", NAME))
                assert caught.value.reason is Reason.CREDENTIALS_REFUSED
                assert other.validator.issued == []
                return
            assert rig.fetch(server.url("/ok", NAME)).body == DOCUMENT
        (token,) = other.validator.issued
        assert f"\r\nAuthorization: Bearer {token}\r\n".encode() in server.heads[-1]
        # oauthlib's client reads the same token and sends the same request.
        client = BackendApplicationClient(CLIENT, scope=scope or None)
        assert client.parse_request_body_response(other.bodies[-1], scope=scope or None)["access_token"] == token
        if place == "header":
            asks = client.prepare_request_body(include_client_id=False)
            assert dict(parse_qsl(asks)) == dict(parse_qsl(tokens.body))
