"""TLS to Redis: who is verified, by every way in that producer and worker have."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from cryptography.x509.oid import ExtendedKeyUsageOID
from kombu.exceptions import OperationalError

from mission.errors import LedgerUnavailable, SettingsError
from mission.model import State
from mission.settings import Settings
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.messages import celery_config
from producer import MissionClient
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from tests.servers.certificates import Authority
from tests.servers.tls_redis import tls_redis
from worker.local.sample_site import SampleSite
from worker.local.stack import running_worker

pytestmark = pytest.mark.full


class Pki:
    """An authority, a client's certificate of it, and servers: a good one, and the bad ones by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "another authority")
        self.client = self.authority.certificate("producer", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        self._ports: dict[str, int] = {}

    @contextmanager
    def server(self, kind: str = "good") -> Iterator[int]:
        """A server whose certificate is good, or bad in one way; its port."""
        certificates: dict[str, Callable[[], Path]] = {
            "good": lambda: self.authority.certificate("127.0.0.1"),
            "wrong_ca": lambda: self.stranger.certificate("127.0.0.1"),
            "wrong_name": lambda: self.authority.certificate("elsewhere.example"),
            "expired": lambda: self.authority.certificate("127.0.0.1", days=(-10, -1)),
        }
        with tls_redis(self.folder, certificate=certificates[kind](), ca=self.authority.ca_file) as port:
            yield port

    def options(self, port: int, **changed: Any) -> dict[str, Any]:
        """The settings for that server, field name to value."""
        good = {
            "redis_url": f"rediss://127.0.0.1:{port}/0",
            "redis_ca_file": str(self.authority.ca_file),
            "redis_cert_file": str(self.client),
            "redis_key_file": str(self.client),
        }
        return {name: value for name, value in (good | changed).items() if value is not None}


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def good_server(pki: Pki) -> Iterator[int]:
    with pki.server() as port:
        yield port


Case = tuple[dict[str, Any], str]


_GONE = "Connection reset|Connection closed|Broken pipe"


@pytest.fixture(params=["wrong_ca", "wrong_name", "expired", "unknown_ca", "no_client_certificate", "plaintext"])
def refused(request: pytest.FixtureRequest, pki: Pki, good_server: int) -> Iterator[Case]:
    """Settings that must not connect, and what the refusal says."""
    unknown = {"redis_ca_file": None}
    no_certificate = {"redis_cert_file": None, "redis_key_file": None}
    in_clear = {"redis_url": f"redis://127.0.0.1:{good_server}/0"} | unknown | no_certificate
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "unknown_ca": (unknown, "certificate verify failed: self-signed certificate in certificate chain"),
        # The server's refusal comes after the client's side of TLS 1.3 is done: it shows as one of these.
        "no_client_certificate": (no_certificate, "certificate required|EOF occurred|" + _GONE),
        "plaintext": (in_clear, _GONE),
    }
    if request.param in cases:
        changed, text = cases[request.param]
        yield pki.options(good_server, **changed), text
        return
    texts = {
        "wrong_ca": "certificate verify failed: unable to get local issuer certificate",
        "wrong_name": "IP address mismatch, certificate is not valid for '127.0.0.1'",
        "expired": "certificate has expired",
    }
    with pki.server(request.param) as port:
        yield pki.options(port), texts[request.param]


def test_the_ledger_does_not_connect(refused: Case) -> None:
    options, text = refused
    settings = Settings.from_env(**options)
    with connect(settings) as client, pytest.raises(LedgerUnavailable, match=text):
        Ledger(client, settings).stats()


def test_the_broker_does_not_connect(refused: Case) -> None:
    options, text = refused
    app = Celery("tests", set_as_current=False, fixups=[])
    config = celery_config(Settings.from_env(**options))
    once = {"max_retries": 1, "interval_start": 0}
    app.conf.update(config | {"broker_transport_options": config["broker_transport_options"] | once})
    with app.connection_for_write() as connection, pytest.raises(OperationalError, match=text):
        connection.default_channel.client.ping()


def test_the_result_backend_does_not_connect(refused: Case) -> None:
    options, text = refused
    app = Celery("tests", set_as_current=False, fixups=[])
    app.conf.update(celery_config(Settings.from_env(**options)))
    with pytest.raises(app.backend.connection_errors, match=text):
        app.backend.client.ping()


def test_the_producer_says_so_in_one_line(refused: Case, keys: Keys) -> None:
    options, text = refused
    environment = {f"DECODER_{name.upper()}": value for name, value in options.items()}
    done = subprocess.run(
        [sys.executable, "-m", "producer", "enqueue", "https://docs.example.com/"],
        env=os.environ | environment | {"DECODER_URL_KEY": keys.url_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: store_unavailable: ")
    assert re.search(text, line)


def test_a_server_without_tls_is_not_spoken_to(settings: Settings) -> None:
    in_clear = settings.redis_url.get_secret_value()
    asked = Settings.from_env(redis_url=in_clear.replace("redis://", "rediss://"), redis_timeout=1)
    with connect(asked) as client, pytest.raises(LedgerUnavailable, match=r"Timeout connecting to server|SSL"):
        Ledger(client, asked).stats()


def test_the_whole_job_runs_over_tls(
    pki: Pki, good_server: int, keys: Keys, site: SampleSite, start_worker: StartWorker
) -> None:
    """Ledger, broker and result backend, of producer and worker."""
    options = pki.options(good_server)
    start_worker(allowed_hosts=f"127.0.0.1:{site.port}", **options)
    client = MissionClient(Settings.from_env(url_key=keys.url_key, **options))
    ticket = client.enqueue(f"{site.url}/letter.txt")
    assert client.wait(ticket.id, timeout=60).state is State.SUCCEEDED
    foreign = Celery("foreign", set_as_current=False, fixups=[])
    foreign.conf.update(celery_config(Settings.from_env(**options)))
    answer = foreign.send_task("decoder.status", args=[ticket.id], queue="missions", ignore_result=False)
    assert answer.get(timeout=60)["state"] == "succeeded"


def test_a_worker_writes_no_tls_keys(
    pki: Pki, good_server: int, start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The libraries would: with them, whoever recorded the connection could read it."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "tls-keys"))
    start_worker(**pki.options(good_server))  # ready means connected
    assert not (tmp_path / "tls-keys").exists()


def test_a_worker_that_is_refused_says_so_and_takes_no_work(pki: Pki, keys: Keys, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pki.server("wrong_name") as port:
        values = pki.options(port) | {
            "url_key": keys.url_key,
            "recipient": keys.identity.recipient.text,
            "metrics_port": "0",
            "metrics_host": "127.0.0.1",
        }
        with running_worker(tmp_path, values) as worker:
            wait_for(lambda: "IP address mismatch" in worker.log.read_text(), what="a line in the worker's log")
            worker.check()
            lines = [json.loads(line) for line in worker.log.read_text().splitlines() if line.startswith("{")]
            messages = [line["message"] for line in lines]
            assert any(
                re.match("consumer: Cannot connect to rediss://.*IP address mismatch", text) for text in messages
            )
            assert not any("ready" in text for text in messages)


@pytest.mark.parametrize("query", ["?ssl_cert_reqs=none", "?ssl_check_hostname=false", "#x"])
def test_no_part_of_the_url_switches_the_check_off(query: str) -> None:
    with pytest.raises(SettingsError, match="DECODER_REDIS_URL"):
        Settings.from_env(redis_url=f"rediss://127.0.0.1:6379/0{query}")


@pytest.mark.parametrize("name", ["redis_ca_file", "redis_cert_file", "redis_key_file"])
def test_a_certificate_without_tls_is_refused(pki: Pki, name: str) -> None:
    with pytest.raises(SettingsError, match=f"DECODER_{name.upper()}: got a file; takes effect only with rediss://"):
        Settings.from_env(redis_url="redis://127.0.0.1:6379/0", **{name: pki.client})


def test_a_certificate_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DECODER_REDIS_CA_FILE"):
        Settings.from_env(redis_url="rediss://127.0.0.1:6379/0", redis_ca_file=tmp_path / "none.pem")
