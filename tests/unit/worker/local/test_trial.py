"""The Secret of a trial: its content, and the request for it to a server that answers like Kubernetes."""

from __future__ import annotations

import hashlib
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mission.seal.key_files import KeyLine
from mission.seal.sealing import Identity
from mission.seal.url_keys import UrlKeyring
from mission.store.acl import LOGINS
from tests.servers.certificates import Authority
from worker.local import trial

HOST = "decoder-valkey.trial.svc.cluster.local"
METADATA = {"name": "decoder-secrets", "namespace": "trial", "labels": {"app.kubernetes.io/instance": "decoder"}}


class Api(HTTPServer):
    """Records requests, and answers each with the same status."""

    def __init__(self, context: Any) -> None:
        super().__init__(("127.0.0.1", 0), Asked)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.status = 201
        self.asked: list[tuple[str, str | None, Any]] = []


class Asked(BaseHTTPRequestHandler):
    server: Api

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers["Authorization"], body))
        said = b'{"message": "said by the server"}'
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in http.server)
        pass


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    authority = Authority(tmp_path)
    (tmp_path / "token").write_text("a token\n")
    (tmp_path / "ca.crt").write_bytes(authority.ca_file.read_bytes())
    monkeypatch.setattr(trial, "ACCOUNT", tmp_path)
    with Api(authority.context("127.0.0.1")) as server:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.server_port))
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_each_login_has_a_url_whose_password_the_acl_file_lets_in() -> None:
    data = trial.secret_data(HOST)
    for login in LOGINS:
        url = urlsplit(data[f"{login}-redis-url"])
        assert (url.username, url.hostname, url.port) == (login, HOST, 6379)
        digest = hashlib.sha256((url.password or "").encode()).hexdigest()
        assert f"user {login} reset on #{digest} " in data["users.acl"]
    assert data["users.acl"].startswith("user default reset off\n")


def test_its_identity_opens_what_is_sealed_to_its_recipient_and_its_url_key_is_one() -> None:
    data = trial.secret_data(HOST)
    assert Identity.from_line(KeyLine.parse(data["identity"])).recipient.text == data["recipient"]
    assert UrlKeyring.parse(data["url-key"]).key_ids


def test_no_two_are_alike() -> None:
    first, second = trial.secret_data(HOST), trial.secret_data(HOST)
    assert all(first[key] != second[key] for key in first)


def test_the_secret_is_made_with_the_token_of_the_pod(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    assert trial.main(json.dumps(METADATA), HOST) == 0
    ((path, authorization, body),) = api.asked
    assert (path, authorization) == ("/api/v1/namespaces/trial/secrets", "Bearer a token")
    assert (body["kind"], body["metadata"]) == ("Secret", METADATA)
    assert set(body["data"]) == set(trial.secret_data(HOST))
    assert HOST in b64decode(body["data"]["worker-redis-url"]).decode()
    assert capsys.readouterr().out == "Secret decoder-secrets created\n"


def test_one_that_is_there_stays(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.status = 409
    assert trial.main(json.dumps(METADATA), HOST) == 0
    assert capsys.readouterr().out == "Secret decoder-secrets exists already and stays unchanged\n"


def test_a_refusal_is_told_and_the_job_fails(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    api.status = 403
    assert trial.main(json.dumps(METADATA), HOST) == 1
    assert capsys.readouterr().err == 'error: the cluster\'s API answers 403: {"message": "said by the server"}\n'


def test_a_server_that_is_not_the_clusters_gets_no_token(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.crt").write_bytes(Authority(tmp_path, "another").ca_file.read_bytes())
    assert trial.main(json.dumps(METADATA), HOST) == 1
    assert "could not reach the cluster's API" in capsys.readouterr().err
    assert api.asked == []
