"""Nothing in the environment changes where a fetch connects, whom it trusts or what it writes to disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.certificates import Authority
from tests.servers.misbehaving import MisbehavingServer

# Runs in a separate process: libraries read much of this once, on import.
SCRIPT = """
import sys
from mission.errors import MissionFailed
from tests.servers.fetching import fetching
from urllib.parse import urlsplit
url, ca_file = sys.argv[1:]
with fetching(urlsplit(url).port, ca_file=ca_file or None) as rig:
    try:
        print("body", len(rig.fetch(url, seconds=20).body))
    except MissionFailed as failure:
        print("failed", failure.reason.value)
"""


def fetch(url: str, environment: dict[str, str], ca_file: Path | None = None) -> str:
    """The output of a fetch in a process with this environment."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, url, str(ca_file or "")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def tls_server(authority: Authority) -> Iterator[MisbehavingServer]:
    with MisbehavingServer(authority.context("127.0.0.1")) as server:
        yield server


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server


def test_no_proxy_is_used(server: MisbehavingServer, tls_server: MisbehavingServer, authority: Authority) -> None:
    with MisbehavingServer() as proxy:
        names = ("http_proxy", "https_proxy", "all_proxy")
        proxies = {case(name): proxy.url("") for name in names for case in (str.lower, str.upper)}
        proxies |= {"no_proxy": "", "NO_PROXY": ""}
        assert fetch(server.url("/ok"), proxies) == "body 27"
        assert fetch(tls_server.url("/ok"), proxies, authority.ca_file) == "body 27"
        assert not proxy.connections


def test_no_login_is_taken_from_a_netrc(server: MisbehavingServer, tmp_path: Path) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\ndefault login user password secret\n")
    netrc.chmod(0o600)
    assert fetch(server.url("/ok"), {"NETRC": str(netrc), "HOME": str(tmp_path)}) == "body 27"
    assert b"authorization" not in server.heads[0].lower()


BUNDLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]


@pytest.mark.parametrize("variable", BUNDLES)
def test_no_variable_adds_trust(tls_server: MisbehavingServer, authority: Authority, variable: str) -> None:
    assert fetch(tls_server.url("/ok"), {variable: str(authority.ca_file)}) == "failed tls_failure"


def test_no_folder_of_certificates_adds_trust(
    tls_server: MisbehavingServer, authority: Authority, tmp_path: Path
) -> None:
    hashed = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(authority.ca_file)],
        capture_output=True,
        text=True,
        check=True,
    )
    (tmp_path / f"{hashed.stdout.strip()}.0").write_bytes(authority.ca_file.read_bytes())
    assert fetch(tls_server.url("/ok"), {"SSL_CERT_DIR": str(tmp_path)}) == "failed tls_failure"


@pytest.mark.parametrize("variable", BUNDLES)
def test_no_variable_takes_trust_away(
    tls_server: MisbehavingServer, authority: Authority, tmp_path: Path, variable: str
) -> None:
    other = Authority(tmp_path, "another").ca_file
    assert fetch(tls_server.url("/ok"), {variable: str(other)}, authority.ca_file) == "body 27"
    assert fetch(tls_server.url("/ok"), {variable: "/nowhere"}, authority.ca_file) == "body 27"


def test_no_session_keys_are_written(tls_server: MisbehavingServer, authority: Authority, tmp_path: Path) -> None:
    log = tmp_path / "keys"
    assert fetch(tls_server.url("/ok"), {"SSLKEYLOGFILE": str(log)}, authority.ca_file) == "body 27"
    assert not log.exists() or not log.read_bytes()
