"""`decoder check-url`: one verdict per line, in order, without a fetch."""

from __future__ import annotations

import json
import secrets
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner, Result

from tests.processes import started
from worker.cli import main
from worker.commands import check_url

COMMAND = [sys.executable, "-m", "worker", "check-url"]
PIPES: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
HOSTS = "docs.example.com,*.example.org,localhost,nowhere.invalid,[::1],127.0.0.1"


@pytest.fixture(autouse=True)
def allowlist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_ALLOWED_HOSTS", HOSTS)


def run(*arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main, ["check-url", *arguments], input=stdin)


def records(*arguments: str, stdin: bytes = b"") -> list[dict[str, Any]]:
    return [json.loads(line) for line in run("--json", *arguments, stdin=stdin).stdout.splitlines()]


def test_all_allowed_is_exit_code_0() -> None:
    result = run("--no-resolve", "https://docs.example.com/a?b", "https://a.example.org/")
    assert result.stdout.splitlines() == ["allowed  https://docs.example.com/a?b", "allowed  https://a.example.org/"]
    assert result.exit_code == 0


def test_one_refused_is_exit_code_1() -> None:
    result = run("--no-resolve", "https://other.example/", "https://docs.example.com/")
    assert result.stdout.splitlines() == [
        "refused  https://other.example/  host_not_allowed",
        "allowed  https://docs.example.com/",
    ]
    assert result.exit_code == 1


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://docs.example.com", None),
        ("https://docs.example.com/ä", None),
        ("http://docs.example.com/", "scheme_not_allowed"),
        ("https://docs.example.com:8443/", "port_not_allowed"),
        ("https://example.org/", "host_not_allowed"),
        ("https://user:password@docs.example.com/", "credentials_in_url"),
        ("https://docs.example.com/a b", "invalid_url"),
        ("", "invalid_url"),
        ("https://127.0.0.1/", "blocked_address"),
        ("https://[::1]/", "blocked_address"),
        ("https://127.1/", "invalid_url"),
    ],
)
def test_json_gives_url_verdict_and_reason(url: str, reason: str | None) -> None:
    assert records("--no-resolve", url) == [
        {"url": url, "allowed": reason is None, "reason": reason, "credentials": False}
    ]


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_reads_a_url_a_line_from_standard_input(arguments: tuple[str, ...]) -> None:
    lines = b"https://docs.example.com/\r\n\nhttps://a.example.org/\n https://docs.example.com/"
    found = records("--no-resolve", *arguments, stdin=lines)
    assert [(record["url"], record["allowed"]) for record in found] == [
        ("https://docs.example.com/", True),
        ("", False),
        ("https://a.example.org/", True),
        (" https://docs.example.com/", False),
    ]


def test_a_line_that_is_not_utf_8_is_refused() -> None:
    assert records("--no-resolve", stdin=b"https://docs.example.com/\xff\n") == [
        {"url": "https://docs.example.com/\\udcff", "allowed": False, "reason": "invalid_url", "credentials": False}
    ]


def test_what_could_steer_a_terminal_is_escaped() -> None:
    assert run("--no-resolve", "https://docs.example.com/\x1b[2J").stdout == (
        "refused  https://docs.example.com/\\x1b[2J  invalid_url\n"
    )


def test_checks_the_addresses_of_a_name() -> None:
    found = records("https://localhost/", "https://nowhere.invalid/")
    assert [record["reason"] for record in found] == ["blocked_address", "dns_failure"]


def test_a_name_in_an_opened_network_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128")
    assert records("https://localhost/", "https://[::1]/") == [
        {"url": "https://localhost/", "allowed": True, "reason": None, "credentials": False},
        {"url": "https://[::1]/", "allowed": True, "reason": None, "credentials": False},
    ]


def test_it_says_that_a_url_would_be_asked_for_with_credentials_and_not_with_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    value = secrets.token_urlsafe(24)
    file = tmp_path / "credentials.toml"
    file.touch(0o600)
    file.write_text(f'["*.example.org".headers]\nX-Api-Key = "{value}"\n')
    monkeypatch.setenv("DECODER_CREDENTIALS", str(file))
    urls = ("https://a.example.org/", "https://docs.example.com/", "https://a.example.org:8443/")
    result = run("--no-resolve", *urls)
    assert result.stdout.splitlines() == [
        "allowed  https://a.example.org/  with credentials",
        "allowed  https://docs.example.com/",
        "refused  https://a.example.org:8443/  port_not_allowed",
    ]
    assert [record["credentials"] for record in records("--no-resolve", *urls)] == [True, False, False]
    for shown in (result.output, run("--json", "--no-resolve", *urls).output):
        assert not {value, "X-Api-Key"} & set(shown.replace('"', " ").split())


def test_keeps_the_order_while_it_resolves_several_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_url, "AHEAD", 4)
    urls = [f"https://{('localhost', 'other.example', '127.0.0.1')[i % 3]}/{i}" for i in range(50)]
    found = records(stdin="\n".join(urls).encode())
    assert [record["url"] for record in found] == urls
    reasons = ("blocked_address", "host_not_allowed", "blocked_address")
    assert [record["reason"] for record in found] == [reasons[i % 3] for i in range(50)]


def test_an_empty_allowlist_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DECODER_ALLOWED_HOSTS")
    result = run("--no-resolve", "https://docs.example.com/")
    assert result.stderr.startswith("note: DECODER_ALLOWED_HOSTS is empty, so no URL is allowed\n")
    assert result.stdout == "refused  https://docs.example.com/  host_not_allowed\n"


def test_what_to_do_about_a_refusal_is_told_once_to_people_and_not_to_scripts() -> None:
    refused = ["--no-resolve", "https://elsewhere.example/a", "https://elsewhere.example/b"]
    assert run(*refused).stderr == (
        "note: host_not_allowed: add the host to the workers' DECODER_ALLOWED_HOSTS to allow fetches from it\n"
    )
    assert run(*refused, "--json").stderr == ""


@pytest.mark.parametrize(
    ("resolve", "reason", "told"),
    [
        ("worker", "dns_failure", "by the addresses that were checked here"),
        ("proxy", None, "which resolves the names: their addresses are not checked"),
    ],
)
def test_it_says_that_fetches_go_through_the_proxy_and_asks_for_no_name_that_is_the_proxys_to_look_up(
    monkeypatch: pytest.MonkeyPatch, resolve: str, reason: str | None, told: str
) -> None:
    password = uuid4().hex
    monkeypatch.setenv("DECODER_EGRESS_PROXY", f"http://user:{password}@127.0.0.1:1")
    monkeypatch.setenv("DECODER_EGRESS_RESOLVE", resolve)
    result = run("--json", "https://nowhere.invalid/", "https://127.0.0.1/")
    assert [json.loads(line)["reason"] for line in result.stdout.splitlines()] == [reason, "blocked_address"]
    assert result.stderr == f"note: allowed URLs are fetched through DECODER_EGRESS_PROXY, {told}\n"


def test_a_bad_setting_is_one_line_and_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_ALLOWED_HOSTS", "docs.example.com,1.2.3")
    result = run("--no-resolve", "https://docs.example.com/")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: DECODER_ALLOWED_HOSTS: got 'docs.example.com,1.2.3'; takes hosts to fetch from: host, *.host or host:port, comma-separated\n"
    )


def test_answers_line_by_line_before_the_input_ends() -> None:
    with started([*COMMAND, "--no-resolve", "--json"], **PIPES) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("https://docs.example.com/\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["allowed"]
        process.stdin.close()
        assert process.wait() == 0


def test_a_name_that_is_looked_up_is_answered_before_the_next_line_comes() -> None:
    """As with `tail -f urls.txt | decoder check-url -`; an incomplete line waits."""
    with started([*COMMAND, "--json", "-"], **PIPES) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for written, last in (
            ("https://localhost/1\n", "1"),
            ("https://localhost/2\nhttps://local", "2"),
            ("host/3\n", "3"),
        ):
            process.stdin.write(written)
            process.stdin.flush()
            assert select.select([process.stdout], [], [], 20)[0], "nothing is said before the next line"
            assert json.loads(process.stdout.readline())["url"] == f"https://localhost/{last}"
        process.stdin.write("https://localhost/4")
        process.stdin.close()
        assert json.loads(process.stdout.readline())["url"] == "https://localhost/4"
        assert process.wait() == 1


@pytest.mark.parametrize("arguments", [("--no-resolve",), ()])
def test_an_interrupt_is_no_traceback(arguments: tuple[str, ...]) -> None:
    with started([*COMMAND, *arguments], **PIPES) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("https://other.example/\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == "interrupted\n"
        assert process.returncode == 130
