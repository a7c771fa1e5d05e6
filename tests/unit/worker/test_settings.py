"""The worker's settings, and the command that prints them."""

from __future__ import annotations

import json
from ipaddress import ip_network
from uuid import uuid4

import pytest
from click.testing import CliRunner

from mission.errors import SettingsError
from mission.model import MASK
from worker.cli import main
from worker.settings import WorkerSettings


def test_without_any_variable_nothing_is_allowed_but_https() -> None:
    settings = WorkerSettings.from_env()
    assert (settings.allowed_hosts, settings.allowed_networks, settings.allowed_schemes) == ((), (), ("https",))


def test_lists_are_read_from_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_ALLOWED_HOSTS", "docs.example.com, *.example.org ,[::1]:8080")
    monkeypatch.setenv("DECODER_ALLOWED_SCHEMES", "https,http")
    monkeypatch.setenv("DECODER_ALLOWED_NETWORKS", "10.1.0.0/16,fd00::/8")
    settings = WorkerSettings.from_env()
    assert settings.allowed_hosts == ("docs.example.com", "*.example.org", "[::1]:8080")
    assert settings.allowed_schemes == ("https", "http")
    assert settings.allowed_networks == (ip_network("10.1.0.0/16"), ip_network("fd00::/8"))


@pytest.mark.parametrize(("text", "size"), [("10MiB", 10485760), ("1kB", 1000), ("2048", 2048)])
def test_a_size_is_bytes_with_a_unit(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("DECODER_MAX_BYTES", text)
    assert WorkerSettings.from_env().max_bytes == size


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DECODER_ALLOWED_HOSTS", "https://docs.example.com"),
        ("DECODER_ALLOWED_HOSTS", "docs.example.com/path"),
        ("DECODER_ALLOWED_HOSTS", "user@docs.example.com"),
        ("DECODER_ALLOWED_HOSTS", "docs.*.com"),
        ("DECODER_ALLOWED_HOSTS", "docs.example.com:0"),
        ("DECODER_ALLOWED_HOSTS", "docs.example.com:65536"),
        ("DECODER_ALLOWED_HOSTS", "fine.example, not fine"),
        ("DECODER_ALLOWED_SCHEMES", "ftp"),
        ("DECODER_ALLOWED_SCHEMES", ""),
        ("DECODER_ALLOWED_NETWORKS", "10.1.0.1/16"),
        ("DECODER_ALLOWED_NETWORKS", "everywhere"),
        ("DECODER_MARKERS", "{*"),
        ("DECODER_MARKERS", "* *"),
        ("DECODER_MARKERS", "{* *} **"),
        ("DECODER_MAX_BYTES", "2GiB"),
        ("DECODER_MAX_BYTES", "0"),
        ("DECODER_MAX_RECORD", "1000"),
        ("DECODER_MAX_RECORD", "65MiB"),
        ("DECODER_STORED_QUOTA", "-1"),
        ("DECODER_STORED_QUOTA", "much"),
        ("DECODER_MAX_REDIRECTS", "21"),
        ("DECODER_FETCH_ATTEMPTS", "0"),
        ("DECODER_CONCURRENCY", "0"),
        ("DECODER_METRICS_PORT", "65536"),
        ("DECODER_ACCEPT_SUBMIT", "perhaps"),
        ("DECODER_LOG_LEVEL", "loud"),
        ("DECODER_LOG_FORMAT", "xml"),
        ("DECODER_CONNECT_TIMEOUT", "0"),
        ("DECODER_DEADLINE", "2h"),
    ],
)
def test_a_bad_value_is_one_line_with_variable_value_and_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        WorkerSettings.from_env()
    name = variable.removeprefix("DECODER_").lower()
    assert str(caught.value) == f"{variable}: got {value!r}; takes {WorkerSettings.model_fields[name].description}"


@pytest.mark.parametrize(("value", "size"), [("", 0), ("0", 0), ("0B", 0), ("2GiB", 2 * 1024**3)])
def test_the_stored_quota_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, value: str, size: int) -> None:
    monkeypatch.setenv("DECODER_STORED_QUOTA", value)
    assert WorkerSettings.from_env().stored_quota == size


PASSWORD = uuid4().hex


@pytest.mark.parametrize(
    "value",
    ["{}:3128", "http://user:{}@proxy", "socks5://user:{}@proxy:1"]
    # Characters that the masking of a URL would misread: they must be percent-encoded.
    + [f"http://user:{{}}{mark}@proxy:1" for mark in "#?/[]@ \\é"],
)
def test_a_proxy_that_is_none_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("DECODER_EGRESS_PROXY", value.format(PASSWORD))
    with pytest.raises(SettingsError) as caught:
        WorkerSettings.from_env()
    takes = WorkerSettings.model_fields["egress_proxy"].description
    assert str(caught.value) == f"DECODER_EGRESS_PROXY: got {MASK}; takes {takes}"


def test_without_a_proxy_none_can_look_names_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_EGRESS_RESOLVE", "proxy")
    monkeypatch.setenv("DECODER_EGRESS_PROXY", "")
    with pytest.raises(SettingsError, match=r"^DECODER_EGRESS_RESOLVE: got 'proxy'; takes a DECODER_EGRESS_PROXY"):
        WorkerSettings.from_env()
    monkeypatch.setenv("DECODER_EGRESS_PROXY", "http://proxy:3128")
    assert WorkerSettings.from_env().proxy_resolves
    monkeypatch.setenv("DECODER_EGRESS_RESOLVE", "both")
    with pytest.raises(SettingsError, match=r"^DECODER_EGRESS_RESOLVE: got 'both'; takes resolver of host names"):
        WorkerSettings.from_env()


def test_of_a_proxy_all_but_the_password_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_EGRESS_PROXY", f"https://user:{PASSWORD}@proxy.example.com:3128")
    settings = WorkerSettings.from_env()
    shown = {row["variable"]: row["value"] for row in settings.describe()}
    assert shown["DECODER_EGRESS_PROXY"] == f"https://user:{MASK}@proxy.example.com:3128"
    assert PASSWORD not in repr(settings) + repr(settings.proxy) + settings.model_dump_json()


def test_a_lease_shorter_than_the_deadline_and_its_margin_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_DEADLINE", "45s")
    assert WorkerSettings.from_env().lease_seconds == 60
    monkeypatch.setenv("DECODER_DEADLINE", "50s")
    with pytest.raises(SettingsError, match=r"^DECODER_LEASE_SECONDS: got 60s; takes at least .* = 65s$"):
        WorkerSettings.from_env()


def test_the_command_prints_a_line_of_json_for_every_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_URL_KEY", "the-url-key")
    monkeypatch.setenv("DECODER_ALLOWED_HOSTS", "a.example,b.example:8443")
    result = CliRunner().invoke(main, ["settings", "--json"])
    rows = {row["variable"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 0
    assert set(rows) == {f"DECODER_{name.upper()}" for name in WorkerSettings.model_fields}
    assert all(set(row) == {"variable", "value", "set", "takes"} for row in rows.values())
    assert (rows["DECODER_URL_KEY"]["value"], rows["DECODER_URL_KEY"]["set"]) == (MASK, "yes")
    assert rows["DECODER_ALLOWED_HOSTS"]["value"] == "a.example,b.example:8443"


def test_the_command_prints_a_table_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_REDIS_URL", "redis://:the-password@redis.example:6379/0")
    result = CliRunner().invoke(main, ["settings"])
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["VARIABLE", "VALUE", "SET", "TAKES"]
    assert len(lines) == len(WorkerSettings.model_fields)
    assert "the-password" not in result.stdout


def test_the_command_refuses_a_bad_value_with_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_DEADLINE", "soon")
    result = CliRunner().invoke(main, ["settings"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        result.stderr
        == "error: DECODER_DEADLINE: got 'soon'; takes seconds for the whole fetch of one attempt, up to 3600s\n"
    )
