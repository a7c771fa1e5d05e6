"""TLS to Redis: every connection of producers and workers verifies the server."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from celery import Celery
from cryptography.x509.oid import ExtendedKeyUsageOID
from kombu.exceptions import OperationalError

import mission.client
from mission.errors import LedgerUnavailable, SettingsError
from mission.model import State
from mission.seal.url_keys import generate_url_key
from mission.settings import Settings
from mission.store.broker import VerifiedAMQP
from mission.store.changes import Commit
from mission.store.connection import connect
from mission.store.ledger import Ledger
from mission.store.messages import celery_config
from mission.store.names import ENDED, Key
from producer import MissionClient
from tests.claims import claim_these
from tests.conftest import wait_for
from tests.integration.conftest import Keys, StartWorker
from tests.servers.certificates import Authority
from tests.servers.tls_redis import Certificates, TlsCluster, sentinel_of_master_in_clear, tls_cluster, tls_redis
from worker.local.sample_site import SampleSite
from worker.local.stack import running_worker
from worker.queue.intake import GuardedAMQP

pytestmark = pytest.mark.full


class Pki:
    """A certificate authority, a client certificate that it signed, and server certificates: a good one, and bad ones by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority(folder)
        self.stranger = Authority(folder, "another authority")
        self.client = self.authority.certificate("producer", usage=ExtendedKeyUsageOID.CLIENT_AUTH)
        self._ports: dict[str, int] = {}

    @contextmanager
    def server(self, kind: str = "good") -> Iterator[int]:
        """Start a server whose certificate is good, or bad in one way; return its port."""
        with tls_redis(self.folder, certificate=self._certificate(kind), ca=self.authority.ca_file) as port:
            yield port

    def certificates(self, kind: str = "good") -> Certificates:
        """The same for a Redis Cluster."""
        return Certificates(self._certificate(kind), self.client, self.authority.ca_file)

    def _certificate(self, kind: str) -> Path:
        makers: dict[str, Callable[[], Path]] = {
            "good": lambda: self.authority.certificate("127.0.0.1"),
            "wrong_ca": lambda: self.stranger.certificate("127.0.0.1"),
            "wrong_name": lambda: self.authority.certificate("elsewhere.example"),
            "expired": lambda: self.authority.certificate("127.0.0.1", days=(-10, -1)),
        }
        return makers[kind]()

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
    """Settings that must not connect, and the text of the refusal."""
    unknown = {"redis_ca_file": None}
    no_certificate = {"redis_cert_file": None, "redis_key_file": None}
    in_clear = {"redis_url": f"redis://127.0.0.1:{good_server}/0"} | unknown | no_certificate
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "unknown_ca": (unknown, "certificate verify failed: self-signed certificate in certificate chain"),
        # In TLS 1.3 the server refuses after the client's handshake is done: the client sees one of these errors.
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


def ask_ledger(settings: Settings) -> None:
    with connect(settings) as client:
        Ledger(client, settings).stats()


def ask_broker(settings: Settings, amqp: type[VerifiedAMQP] = VerifiedAMQP) -> None:
    app = Celery("tests", amqp=amqp, set_as_current=False, fixups=[])
    config = celery_config(settings)
    once = {"max_retries": 1, "interval_start": 0}
    app.conf.update(config | {"broker_transport_options": config["broker_transport_options"] | once})
    with app.connection_for_write() as connection:
        connection.default_channel.client.ping()


def ask_result_backend(settings: Settings) -> None:
    app = Celery("tests", set_as_current=False, fixups=[])
    app.conf.update(celery_config(settings))
    app.backend.client.ping()


WAYS: dict[str, Callable[[Settings], None]] = {
    "ledger": ask_ledger,
    "producer's broker": ask_broker,
    "worker's broker": partial(ask_broker, amqp=GuardedAMQP),
    "result backend": ask_result_backend,
}


@pytest.fixture(params=list(WAYS))
def ask(request: pytest.FixtureRequest) -> Callable[[Settings], None]:
    """Connect in each way that producers and workers do."""
    return WAYS[request.param]


REFUSED = (LedgerUnavailable, OperationalError, redis.ConnectionError, redis.TimeoutError)


def test_nothing_connects_to_whom_it_cannot_verify(refused: Case, ask: Callable[[Settings], None]) -> None:
    options, text = refused
    with pytest.raises(REFUSED, match=text):
        ask(Settings.from_env(**options))


def test_with_a_ca_file_the_systems_authorities_do_not_count(
    pki: Pki, ask: Callable[[Settings], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.stranger.ca_file))  # OpenSSL's variable for the system's authorities
    with pki.server("wrong_ca") as port:
        ask(Settings.from_env(**pki.options(port, redis_ca_file=None)))
        with pytest.raises(REFUSED, match="certificate verify failed"):
            ask(Settings.from_env(**pki.options(port)))


@pytest.mark.parametrize("name", ["redis_ca_file", "redis_cert_file", "redis_key_file"])
def test_a_file_that_turns_open_to_everybody_is_trusted_no_more(
    pki: Pki, good_server: int, ask: Callable[[Settings], None], tmp_path: Path, name: str
) -> None:
    file = tmp_path / "file.pem"
    file.write_bytes(Path(pki.options(good_server)[name]).read_bytes())
    settings = Settings.from_env(**pki.options(good_server, **{name: file}))
    ask(settings)
    file.chmod(0o666)
    with pytest.raises(REFUSED, match=f"run `chmod o-w {file}`"):
        ask(settings)


@pytest.fixture(scope="module")
def cluster(pki: Pki) -> Iterator[TlsCluster]:
    with tls_cluster(pki.folder, pki.certificates()) as cluster:
        yield cluster


def test_sentinel_and_master_are_reached_by_tls(pki: Pki, cluster: TlsCluster, ask: Callable[[Settings], None]) -> None:
    ask(Settings.from_env(**pki.options(0, redis_url=cluster.url)))


def test_who_waits_hears_of_an_end_by_tls(
    pki: Pki, cluster: TlsCluster, good_server: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is notified at once; it does not depend on its slow polling."""
    monkeypatch.setattr(mission.client, "_LOOK_SECONDS", 30.0)
    for url in (f"rediss://127.0.0.1:{good_server}/0", cluster.url):
        settings = Settings.from_env(url_key=generate_url_key(), **pki.options(0, redis_url=url))
        missions = MissionClient(settings)
        mission_id = missions.enqueue("https://docs.example.com/").id
        told = missions.outcomes("g")
        with connect(settings) as client, ThreadPoolExecutor() as pool:
            waiting = pool.submit(missions.wait, mission_id, 30)
            wait_for(lambda c=client, i=mission_id: c.pubsub_numsub(ENDED + i)[0][1], what="the listener")  # type: ignore[misc]  # mypy infers no type for it
            ledger = Ledger(client, settings)
            (claim,) = claim_these(ledger, [mission_id], 1, 60).claims
            ledger.commit([Commit(claim.id, claim.token, State.SUCCEEDED, None, 0)], 60)
            assert waiting.result(15).state is State.SUCCEEDED
            assert pool.submit(next, told).result(15).id == mission_id


# redis-py says no more about Sentinels that did not answer.
NO_MASTER = "No master found|the Sentinels know no master"
NO_TLS = r"Timeout connecting to server|SSL|closed|reset"


def test_a_sentinel_with_a_certificate_of_another_authority_is_refused(
    pki: Pki, ask: Callable[[Settings], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if the system trusts that authority."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pki.stranger.ca_file))
    with sentinel_of_master_in_clear(pki.folder, pki.certificates("wrong_ca")) as url:
        trusting = pki.options(0, redis_url=url, redis_ca_file=None, redis_timeout=1)
        with pytest.raises(REFUSED, match=NO_TLS):  # it was believed
            ask(Settings.from_env(**trusting))
        with pytest.raises(REFUSED, match=NO_MASTER):
            ask(Settings.from_env(**pki.options(0, redis_url=url)))


@pytest.mark.parametrize("kind", ["wrong_name", "expired"])
def test_a_sentinel_with_a_bad_certificate_is_refused(pki: Pki, ask: Callable[[Settings], None], kind: str) -> None:
    with (
        sentinel_of_master_in_clear(pki.folder, pki.certificates(kind)) as url,
        pytest.raises(REFUSED, match=NO_MASTER),
    ):
        ask(Settings.from_env(**pki.options(0, redis_url=url)))


def test_a_sentinel_is_not_asked_in_clear(pki: Pki, settings: Settings, ask: Callable[[Settings], None]) -> None:
    in_clear = urlsplit(settings.redis_url.get_secret_value()).port
    with pytest.raises(REFUSED):
        ask(Settings.from_env(**pki.options(0, redis_url=f"rediss+sentinel://127.0.0.1:{in_clear}/x", redis_timeout=1)))


def test_a_master_that_is_no_server_of_tls_is_not_spoken_to(pki: Pki, ask: Callable[[Settings], None]) -> None:
    """An attacker with a Sentinel may name any master; without TLS that master gets no password."""
    with (
        sentinel_of_master_in_clear(pki.folder, pki.certificates()) as url,
        pytest.raises(REFUSED, match=NO_TLS),
    ):
        ask(Settings.from_env(**pki.options(0, redis_url=url, redis_timeout=1)))


def test_the_whole_job_runs_over_tls_by_sentinel_and_after_a_failover_behind_the_guard(
    pki: Pki, keys: Keys, site: SampleSite, start_worker: StartWorker
) -> None:
    with tls_cluster(pki.folder, pki.certificates()) as cluster:
        options = pki.options(0, redis_url=cluster.url, redis_timeout="2s")
        worker = start_worker(allowed_hosts=f"127.0.0.1:{site.port}", **options)
        settings = Settings.from_env(url_key=keys.url_key, **options)
        missions = MissionClient(settings)
        assert missions.wait(missions.enqueue(f"{site.url}/letter.txt").id, timeout=60).state is State.SUCCEEDED
        cluster.master.kill()
        wait_for(lambda: worker.log.read_text().count("Connected to ") >= 2, what="the new master")
        with connect(settings) as client:
            client.lpush("missions", b"nonsense")
            wait_for(lambda: client.xlen(Key.QUARANTINE), what="the quarantine")
        ticket = missions.enqueue(f"{site.url}/letter.txt")
        assert missions.wait(ticket.id, timeout=60).state is State.SUCCEEDED
        foreign = Celery("foreign", set_as_current=False, fixups=[])
        foreign.conf.update(celery_config(Settings.from_env(**options)))
        answer = foreign.send_task("decoder.status", args=[ticket.id], queue="missions", ignore_result=False)
        assert answer.get(timeout=60)["state"] == "succeeded"
        worker.check()


def enqueue(options: dict[str, Any], keys: Keys) -> subprocess.CompletedProcess[str]:
    """Enqueue by the command."""
    environment = {f"DECODER_{name.upper()}": value for name, value in options.items()}
    return subprocess.run(
        [sys.executable, "-m", "producer", "enqueue", "https://docs.example.com/"],
        env=os.environ | environment | {"DECODER_URL_KEY": keys.url_key},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_producer_says_so_in_one_line(refused: Case, keys: Keys) -> None:
    options, text = refused
    done = enqueue(options, keys)
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
    """The libraries would write them, and anyone who recorded the connection could then read it."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "tls-keys"))
    start_worker(**pki.options(good_server))  # a ready worker is connected
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
            wait_for(lambda: "consumer: " in worker.log.read_text(), what="a line in the worker's log")
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
    with pytest.raises(SettingsError, match="DECODER_REDIS_URL"):
        Settings.from_env(redis_url=f"rediss+sentinel://127.0.0.1:26379/main{query}")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "sentinel://127.0.0.1:26379/main"])
@pytest.mark.parametrize("name", ["redis_ca_file", "redis_cert_file", "redis_key_file"])
def test_a_certificate_without_tls_is_refused(pki: Pki, name: str, url: str) -> None:
    with pytest.raises(SettingsError, match=f"DECODER_{name.upper()}: got a file; takes effect only with rediss://"):
        Settings.from_env(redis_url=url, **{name: pki.client})


def test_a_certificate_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="DECODER_REDIS_CA_FILE"):
        Settings.from_env(redis_url="rediss://127.0.0.1:6379/0", redis_ca_file=tmp_path / "none.pem")
