"""The URL policy: allowlist, ports, schemes, addresses. It fails closed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest

from mission.errors import MissionFailed, SettingsError
from mission.model import Reason
from mission.url import parse_url
from worker.allowlist import AllowedHost
from worker.fetch.dns import Resolver
from worker.fetch.policy import UrlPolicy
from worker.fetch.wire import Wait
from worker.settings import WorkerSettings

LONG = Wait(30.0, cut_short=False)


def policy(*hosts: str, schemes: Iterable[str] = ("http", "https"), networks: Iterable[str] = ()) -> UrlPolicy:
    return UrlPolicy(hosts=hosts, schemes=schemes, networks=map(ip_network, networks))


def verdict(policy: UrlPolicy, url: str) -> Reason | None:
    try:
        policy.check(parse_url(url))
    except MissionFailed as refusal:
        return refusal.reason
    return None


def resolver(*addresses: str) -> Resolver:
    return Resolver(lambda host, port: addresses)


def refusal(policy: UrlPolicy, url: str, resolver: Resolver) -> Reason:
    with pytest.raises(MissionFailed) as caught:
        policy.addresses(parse_url(url), resolver, LONG)
    return caught.value.reason


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("docs.example.com", "https://docs.example.com/x"),
        ("docs.example.com", "http://docs.example.com/x"),
        ("docs.example.com", "https://DOCS.example.com./x"),
        ("Docs.Example.COM.", "https://docs.example.com/x"),
        ("bücher.example", "https://xn--bcher-kva.example/"),
        ("xn--bcher-kva.example", "https://Bücher.example/"),
        ("*.example.com", "https://docs.example.com/"),
        ("*.example.com", "https://a.b.c.example.com/"),
        ("*.bücher.example", "https://a.xn--bcher-kva.example/"),
        ("docs.example.com:8443", "https://docs.example.com:8443/"),
        ("docs.example.com:8443", "http://docs.example.com:8443/"),
        ("docs.example.com:443", "https://docs.example.com/"),
        ("*.example.com:8443", "https://docs.example.com:8443/"),
        ("8.8.8.8", "https://8.8.8.8/"),
        ("[2606:4700:4700:0::1111]", "https://[2606:4700:4700::1111]/"),
        ("[2606:4700:4700::1111]:81", "https://[2606:4700:4700::1111]:81/"),
        ("localhost", "https://localhost/"),
    ],
)
def test_allows_what_is_listed(entry: str, url: str) -> None:
    assert verdict(policy(entry), url) is None


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("docs.example.com", "https://example.com/"),
        ("docs.example.com", "https://a.docs.example.com/"),
        ("docs.example.com", "https://docs.example.com.other.example/"),
        ("docs.example.com", "https://xdocs.example.com/"),
        ("*.example.com", "https://example.com/"),
        ("*.example.com", "https://xexample.com/"),
        ("*.example.com", "https://a.example.com.other.example/"),
        ("*.com", "https://com/"),
        ("8.8.8.8", "https://8.8.4.4/"),
        ("8.8.8.8", "https://[::ffff:8.8.8.8]/"),
    ],
)
def test_refuses_hosts_that_are_not_listed(entry: str, url: str) -> None:
    assert verdict(policy(entry), url) is Reason.HOST_NOT_ALLOWED


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://docs.example.com:8443/a", "docs.example.com"),
        ("https://key.of.a.stranger.example.com/", "*.example.com"),
        ("https://deep.in.cdn.example.com/", "*.cdn.example.com"),
        ("https://elsewhere.example/", None),
    ],
)
def test_tells_by_which_entry_a_host_is_allowed_and_nothing_of_the_host(url: str, entry: str | None) -> None:
    listed = policy("docs.example.com:8443", "*.example.com", "*.cdn.example.com")
    assert listed.allowed_by(parse_url(url)) == entry


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://docs.example.com/", "docs.example.com:443"),
        ("http://docs.example.com/", "docs.example.com"),
        ("https://docs.example.com:8443/", "docs.example.com:8443"),
        ("https://docs.example.com:9443/", "*.example.com:9443"),
        ("https://a.example.com/", "*.example.com"),
        ("https://a.cdn.example.com/", "*.cdn.example.com"),
        ("https://a.cdn.example.com:9443/", "*.example.com:9443"),
        ("https://docs.example.com:81/", None),
        ("https://other.example/", None),
    ],
)
def test_one_entry_opens_a_url_the_most_specific_of_those_that_do(url: str, entry: str | None) -> None:
    hosts = ("docs.example.com", "docs.example.com:443", "docs.example.com:8443", "*.example.com", "*.example.com:9443")
    found = policy(*hosts, "*.cdn.example.com").opened_by(parse_url(url))
    assert (str(found) if found else None) == entry


def test_an_entry_is_listed_with_its_very_port_and_wildcard() -> None:
    listed = policy("docs.example.com", "*.example.org:8443")
    spelt = ("Docs.Example.com", "docs.example.com:443", "*.docs.example.com", "*.example.org:8443", "*.example.org")
    assert [listed.lists(AllowedHost.parse(text)) for text in spelt] == [True, False, False, True, False]


def test_an_empty_list_allows_nothing() -> None:
    assert verdict(policy(), "https://docs.example.com/") is Reason.HOST_NOT_ALLOWED
    assert verdict(policy(), "https://8.8.8.8/") is Reason.HOST_NOT_ALLOWED


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("docs.example.com", "https://docs.example.com:8443/"),
        ("docs.example.com", "https://docs.example.com:80/"),
        ("docs.example.com", "http://docs.example.com:443/"),
        ("docs.example.com:8443", "https://docs.example.com/"),
        ("docs.example.com:80", "https://docs.example.com/"),
        ("*.example.com", "https://docs.example.com:8443/"),
        ("*.example.com:8443", "https://docs.example.com/"),
    ],
)
def test_refuses_ports_that_are_not_listed(entry: str, url: str) -> None:
    assert verdict(policy(entry), url) is Reason.PORT_NOT_ALLOWED


def test_entries_for_one_host_add_up() -> None:
    several = policy("docs.example.com", "docs.example.com:8443", "*.example.com:9443", "*.com:10443")
    for port in (443, 8443, 9443, 10443):
        assert verdict(several, f"https://docs.example.com:{port}/") is None
    assert verdict(several, "https://docs.example.com:11443/") is Reason.PORT_NOT_ALLOWED
    assert verdict(several, "https://other.example.com/") is Reason.PORT_NOT_ALLOWED


def test_refuses_schemes_that_are_not_allowed() -> None:
    for allowed, other in (("https", "http"), ("http", "https")):
        narrow = policy("docs.example.com", schemes=[allowed])
        assert verdict(narrow, f"{other}://docs.example.com/") is Reason.SCHEME_NOT_ALLOWED


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "*",
        "*.",
        "*.*.example.com",
        "a.*.example.com",
        "*example.com",
        "https://example.com",
        "example.com/path",
        "example.com?x",
        "user@example.com",
        "exa mple.com",
        "a..b",
        "example.com..",
        "example.com:0",
        "example.com:65536",
        "example.com:x",
        "example.com:",
        "*.4",
        "*.1.2.3.4",
        "*.[::1]",
        "1.2.3",
        "0x7f.0.0.1",
        "2130706433",
        "::1",
        "[::1",
        "[fe80::1%1]",
    ],
)
def test_a_bad_entry_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{entry!r} is not a host, *.host, ")):
        policy("docs.example.com", entry)
    with pytest.raises(SettingsError, match=r"^DECODER_ALLOWED_HOSTS: got .*; takes hosts"):
        WorkerSettings.from_env(allowed_hosts=("docs.example.com", entry))


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://[::1]/", "https://[::ffff:127.0.0.1]/"])
def test_a_listed_address_is_still_checked(url: str) -> None:
    host = parse_url(url).host
    assert verdict(policy(host), url) is Reason.BLOCKED_ADDRESS


def test_a_listed_address_in_an_opened_network_passes() -> None:
    local = policy("127.0.0.1:8080", "[::1]:8080", networks=["127.0.0.0/8", "::1/128"])
    assert verdict(local, "http://127.0.0.1:8080/") is None
    assert verdict(local, "http://[::1]:8080/") is None


def test_an_opened_network_opens_no_host() -> None:
    assert verdict(policy(networks=["0.0.0.0/0", "::/0"]), "https://10.0.0.1/") is Reason.HOST_NOT_ALLOWED


def test_the_settings_make_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DECODER_ALLOWED_HOSTS", "docs.example.com, 10.1.2.3:8080")
    monkeypatch.setenv("DECODER_ALLOWED_SCHEMES", "https,http")
    monkeypatch.setenv("DECODER_ALLOWED_NETWORKS", "10.1.0.0/16")
    made = UrlPolicy.from_settings(WorkerSettings.from_env())
    assert verdict(made, "https://docs.example.com/") is None
    assert verdict(made, "http://10.1.2.3:8080/") is None
    assert verdict(made, "http://10.1.2.3/") is Reason.PORT_NOT_ALLOWED


def test_gives_all_addresses_of_a_name() -> None:
    found = policy().addresses(parse_url("https://a.example/"), resolver("1.1.1.1", "2606:4700::1"), LONG)
    assert found == (IPv4Address("1.1.1.1"), IPv6Address("2606:4700::1"))


@pytest.mark.parametrize(
    "answers",
    [
        ("127.0.0.1",),
        ("1.1.1.1", "10.0.0.1"),
        ("10.0.0.1", "1.1.1.1"),
        ("1.1.1.1", "::ffff:1.1.1.1"),
        ("fe80::1%1", "1.1.1.1"),
        ("1.1.1.1", "169.254.169.254"),
    ],
)
def test_one_blocked_address_among_several_refuses_the_name(answers: tuple[str, ...]) -> None:
    assert refusal(policy(), "https://a.example/", resolver(*answers)) is Reason.BLOCKED_ADDRESS


def test_a_remembered_answer_is_checked_on_each_use() -> None:
    url, remembering = "https://a.example/", resolver("10.0.0.1")
    open_policy = policy(networks=["10.0.0.0/8"])
    assert open_policy.addresses(parse_url(url), remembering, LONG) == (IPv4Address("10.0.0.1"),)
    assert refusal(policy(), url, remembering) is Reason.BLOCKED_ADDRESS


def test_a_name_without_addresses_is_a_dns_failure() -> None:
    assert refusal(policy(), "https://a.example/", resolver()) is Reason.DNS_FAILURE


def test_an_address_is_not_looked_up() -> None:
    asked: list[str] = []
    asking = Resolver(lambda host, port: asked.append(host) or ("1.1.1.1",))  # type: ignore[func-returns-value]  # append returns None
    assert policy().addresses(parse_url("https://8.8.8.8/"), asking, LONG) == (IPv4Address("8.8.8.8"),)
    assert policy().addresses(parse_url("https://[2606:4700::1]/"), asking, LONG) == (IPv6Address("2606:4700::1"),)
    assert asked == []


def test_an_address_is_checked_also_when_it_is_asked_for_its_addresses() -> None:
    assert refusal(policy(), "https://127.0.0.1/", resolver("1.1.1.1")) is Reason.BLOCKED_ADDRESS
