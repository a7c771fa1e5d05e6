"""A mission's URL: parsed once, refused if doubtful, rebuilt."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.errors import InvalidMission
from mission.model import Reason
from mission.url import DEFAULT_PORTS, MAX_LENGTH, MissionUrl, _rebuild, parse_url

BASE = parse_url("https://docs.example.com:8443/a/b?c=d")


def refusal(text: str, base: MissionUrl | None = None) -> Reason:
    with pytest.raises(InvalidMission) as caught:
        parse_url(text, base)
    return caught.value.reason


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port", "target"),
    [
        ("https://example.com", "https", "example.com", 443, "/"),
        ("http://example.com", "http", "example.com", 80, "/"),
        ("HTTPS://EXAMPLE.com:0443/A", "https", "example.com", 443, "/A"),
        ("https://example.com:8443/a/../b?q=1#part", "https", "example.com", 8443, "/b?q=1"),
        ("https://example.com./x", "https", "example.com", 443, "/x"),
        ("https://example.com:/x", "https", "example.com", 443, "/x"),
        ("https://bücher.example/ä?ö", "https", "xn--bcher-kva.example", 443, "/%C3%A4?%C3%B6"),
        ("https://ex%61mple.com/%zz%2e", "https", "example.com", 443, "/%zz%2e"),
        ("https://a_b.example.com/", "https", "a_b.example.com", 443, "/"),
        ("https://localhost/?", "https", "localhost", 443, "/"),
        ("https://1.2.3.4:81/", "https", "1.2.3.4", 81, "/"),
        ("https://[2001:DB8:0:0::1]/", "https", "[2001:db8::1]", 443, "/"),
        ("https://[::ffff:1.2.3.4]:81/", "https", "[::ffff:102:304]", 81, "/"),
        ("https://example.com/user@host:80", "https", "example.com", 443, "/user@host:80"),
        ("https://example.com?a@b", "https", "example.com", 443, "/?a@b"),
    ],
)
def test_rebuilds_from_the_parts(text: str, scheme: str, host: str, port: int, target: str) -> None:
    assert parse_url(text) == MissionUrl(scheme, host, port, target)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://example.com/" + "a" * MAX_LENGTH,
        "https://example.com/" + "ä" * (MAX_LENGTH // 6),  # too long once encoded
        "example.com",
        "//example.com/",
        "/path",
        "https:example.com",
        "https:/example.com",
        "https:///example.com",
        "https://",
        "https://?a",
        "https://:443/",
        "https://example.com\\@other.example/",
        "https:\\\\example.com/",
        " https://example.com/",
        "https://example.com/ ",
        "https://example.com/a b",
        "https://example.com/a\tb",
        "https://exam\nple.com/",
        "https://example.com/\r\nHost: other",
        "https://example.com/\x00",
        "https://example.com/\x7f",
        "https://example.com/\x85",
        "https://example.com/\u00a0",
        "https://example.com/\u2028",
        "https://example.com/\u3000",
        "https://example.com/\ud800",
        "https://\udcff.example/",
        "https://example.com..",
        "https://.",
        "https://..",
        "https://.example.com",
        "https://a..b",
        "https://" + "a" * 64 + ".example",
        "https://" + "a." * 127 + "example",
        "https://exa*mple.com",
        "https://exa'mple.com",
        "https://example.com%00.other.example",
        "https://example.com%2f.other.example",
        "https://example.com%40other.example",
        "https://example.com\uff0fother.example",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://127.0.0.01/",
        "https://127.0.0.1./",
        "https://%31%32%37.0.0.1/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://127\u30020\u30020\u30021/",
        "https://256.0.0.1/",
        "https://1.2.3.4.5/",
        "https://example.1/",
        "https://[::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[::1/",
        "https://[v1.a]/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:80a/",
        "https://example.com:-1/",
    ],
)
def test_refuses_what_is_doubtful(text: str) -> None:
    assert refusal(text) is Reason.INVALID_URL


def test_refuses_what_is_no_text() -> None:
    assert refusal(None) is Reason.INVALID_URL  # type: ignore[arg-type]  # a message may hold anything
    assert refusal(b"https://example.com/") is Reason.INVALID_URL  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "ftp://h/",
        "file:///etc/passwd",
        "gopher://h/",
        "data:,x",
        "javascript:1",
        "ws://h/",
        "example.com:8080/x",
        "httpsx://h",
    ],
)
def test_refuses_other_schemes(text: str) -> None:
    assert refusal(text) is Reason.SCHEME_NOT_ALLOWED
    assert refusal(text, BASE) is Reason.SCHEME_NOT_ALLOWED


@pytest.mark.parametrize("userinfo", ["user:password@", "user@", ":password@", ":@", "@", "a@b@", "é:é@"])
def test_refuses_credentials_also_empty_ones(userinfo: str) -> None:
    assert refusal(f"https://{userinfo}example.com/") is Reason.CREDENTIALS_IN_URL
    assert refusal(f"//{userinfo}example.com/", BASE) is Reason.CREDENTIALS_IN_URL


@pytest.mark.parametrize(
    ("location", "href"),
    [
        ("/x", "https://docs.example.com:8443/x"),
        ("x?y", "https://docs.example.com:8443/a/x?y"),
        ("?y", "https://docs.example.com:8443/a/b?y"),
        ("#part", "https://docs.example.com:8443/a/b?c=d"),
        ("../../../x", "https://docs.example.com:8443/x"),
        ("//other.example/x", "https://other.example/x"),
        ("http://other.example", "http://other.example/"),
        ("https://docs.example.com/", "https://docs.example.com/"),
        ("//[::1]/", "https://[::1]/"),
        ("//127.0.0.1:81/", "https://127.0.0.1:81/"),
    ],
)
def test_reads_a_location_against_the_url_that_sent_it(location: str, href: str) -> None:
    assert parse_url(location, BASE).href == href


@pytest.mark.parametrize(
    "location",
    [
        "",
        " /x",
        "/x\n",
        "\\\\other.example",
        "/\\other.example",
        "///other.example",
        "//",
        "https:x",
        "https:/x",
        "//0x7f.1/",
        "//h:0/",
    ],
)
def test_refuses_a_doubtful_location(location: str) -> None:
    assert refusal(location, BASE) is Reason.INVALID_URL


def test_a_location_relative_to_an_address_keeps_it() -> None:
    assert parse_url("/x", parse_url("https://127.0.0.1/")).href == "https://127.0.0.1/x"


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("https://example.com:443/", "example.com"),
        ("http://example.com:443/", "example.com:443"),
        ("https://[::1]:8443/", "[::1]:8443"),
        ("https://[::1]/", "[::1]"),
    ],
)
def test_the_authority_holds_the_port_where_it_is_not_the_schemes_own(text: str, authority: str) -> None:
    assert parse_url(text).authority == authority


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://10.0.0.1/", IPv4Address("10.0.0.1")),
        ("https://[::ffff:10.0.0.1]/", IPv6Address("::ffff:10.0.0.1")),
        ("https://example.com/", None),
        ("https://host1/", None),
        ("https://10.example/", None),
    ],
)
def test_knows_when_the_host_is_an_address(text: str, address: IPv4Address | IPv6Address | None) -> None:
    assert parse_url(text).address == address


def test_shows_nothing_of_itself() -> None:
    url = parse_url("https://example.com/path?token=value")
    assert {repr(url), str(url), f"{url}"} == {"MissionUrl()"}


def test_a_refusal_shows_nothing_of_the_url() -> None:
    for text in (
        "https://us3r:pa55@h0st/",
        "https://h0st.example:0/t0ken",
        "t0ken",
        "https://h0st/ t0ken",
        "https://h0st../",
    ):
        with pytest.raises(InvalidMission) as caught:
            parse_url(text)
        assert not {"us3r", "pa55", "h0st", "t0ken"} & set(str(caught.value).replace(":", " ").split())
        assert "h0st" not in repr(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize("text", ["ftp://example.com/", "https://user@example.com/", "https://:password@example.com/"])
def test_refuses_what_the_parser_alone_would_find(text: str) -> None:
    with pytest.raises(InvalidMission):
        _rebuild(text)


def test_refuses_a_target_that_a_header_line_could_not_hold() -> None:
    with pytest.raises(InvalidMission):
        _rebuild("https://example.com/a b")


def test_an_empty_query_counts_as_none() -> None:
    assert parse_url("https://example.com/a?#top").target == "/a"


_ALPHABET = st.one_of(st.sampled_from("htps:/@.?#[]%\\ \t0127xabcX-_ä。\u00ad\ud800"), st.characters())
_TEXT = st.one_of(
    st.text(_ALPHABET, max_size=60),
    st.builds("{}://{}".format, st.sampled_from(["http", "https", "HTTP"]), st.text(_ALPHABET, max_size=60)),
)


@given(_TEXT, st.sampled_from([None, BASE]))
def test_any_text_is_either_refused_or_rebuilt_for_good(text: str, base: MissionUrl | None) -> None:
    try:
        url = parse_url(text, base)
    except InvalidMission:
        return
    assert parse_url(url.href) == url
    seen = urlsplit(url.href)
    assert (seen.scheme, seen.hostname) == (url.scheme, url.host.strip("[]"))
    assert (seen.port or DEFAULT_PORTS[url.scheme]) == url.port
    assert url.href.isascii()
    assert url.href.isprintable()
    assert " " not in url.href
    assert "@" not in url.authority


def test_importing_it_pulls_in_no_fetcher() -> None:
    code = "import sys, mission.url; print(*sorted({'requests', 'urllib3', 'prometheus_client', 'celery'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
