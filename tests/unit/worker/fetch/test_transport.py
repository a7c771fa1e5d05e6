"""The pinned adapter: trust, pools, and no leak of the target."""

from __future__ import annotations

import logging
import ssl
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from urllib3.connection import HTTPConnection

from mission.errors import SettingsError
from mission.url import parse_url
from tests.servers.certificates import Authority
from worker.fetch.transport import _REQUEST, PinnedAdapter, PinnedRequest, _Pinned, tls_context
from worker.fetch.wire import Limits

LIMITS = Limits(time.monotonic() + 3600, 1, 1)


def test_checks_certificate_name_and_version() -> None:
    context = tls_context(None)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert not context.hostname_checks_common_name
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_trusts_the_systems_authorities_without_a_file() -> None:
    context = tls_context(None)
    paths = ssl.get_default_verify_paths()
    assert context.cert_store_stats()["x509_ca"] > 0 or Path(paths.openssl_capath).is_dir()


def test_trusts_only_the_file_where_there_is_one(tmp_path: Path) -> None:
    assert tls_context(Authority(tmp_path).ca_file).cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize("content", [None, b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_certificates_is_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=r"^DECODER_CA_FILE: got '.*'; takes [^\n]*$"):
        tls_context(file)


def test_pools_are_for_an_address_and_a_host() -> None:
    adapter = PinnedAdapter(tls_context(None), connections=2)
    pools = [
        adapter.get_connection_with_tls_context(PinnedRequest(parse_url(url), ip_address(address), LIMITS), verify=True)
        for url, address in [
            ("https://a.example/1", "192.0.2.1"),
            ("https://a.example/2", "192.0.2.1"),
            ("https://b.example/", "192.0.2.1"),
            ("https://a.example/", "192.0.2.2"),
            ("https://a.example:444/", "192.0.2.1"),
            ("http://a.example/", "192.0.2.1"),
            ("http://b.example/", "192.0.2.1"),
        ]
    ]
    assert pools[0] is pools[1]
    assert len({id(pool) for pool in pools}) == 6
    assert {pool.host for pool in pools} == {"192.0.2.1", "192.0.2.2"}
    adapter.close()


def test_connects_to_addresses_only() -> None:
    token = _REQUEST.set(PinnedRequest(parse_url("http://localhost/"), ip_address("127.0.0.1"), LIMITS))
    connection: HTTPConnection = _Pinned("localhost", 80)
    with pytest.raises(ValueError, match="does not appear to be"):
        connection.connect()
    _REQUEST.reset(token)


def test_a_request_names_its_target_to_nobody_but_the_server() -> None:
    request = PinnedRequest(parse_url("https://a.example/path?key=secret"), ip_address("192.0.2.1"), LIMITS)
    assert "secret" not in repr((request, request.url, request.headers))


@pytest.mark.parametrize("name", ["connection", "connectionpool", "poolmanager", "response", "util.retry"])
def test_nothing_that_urllib3_logs_gets_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger(f"urllib3.{name}").error("https://a.example/?key=secret")
    assert not caplog.records
