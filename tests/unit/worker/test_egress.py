"""The valid values of `DECODER_EGRESS_PROXY`."""

from __future__ import annotations

from base64 import b64decode
from uuid import uuid4

import pytest

from worker.egress import ProxyUrl


@pytest.mark.parametrize(
    ("text", "tls", "host", "port"),
    [
        ("http://proxy.example.com:3128", False, "proxy.example.com", 3128),
        ("https://proxy.example.com:3129/", True, "proxy.example.com", 3129),
        ("http://10.1.2.3:65535", False, "10.1.2.3", 65535),
        ("http://[FD00::1]:1", False, "fd00::1", 1),
        ("http://a_b:8080", False, "a_b", 8080),
    ],
)
def test_a_proxy_has_a_scheme_a_host_and_a_port(text: str, tls: bool, host: str, port: int) -> None:  # noqa: FBT001
    assert ProxyUrl.parse(text) == ProxyUrl(tls, host, port, None)


@pytest.mark.parametrize("password", ["", "simple", "a:b", "%40%2F%3a%25", "%C3%A4"])
def test_a_login_may_be_percent_encoded(password: str) -> None:
    login = ProxyUrl.parse(f"http://us%2Der:{password}@proxy:3128").login
    assert login is not None
    kind, _, encoded = login.partition(" ")
    plain = {"%40%2F%3a%25": "@/:%", "%C3%A4": "ä"}.get(password, password)
    assert (kind, b64decode(encoded).decode()) == ("Basic", f"us-er:{plain}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy:3128",
        "proxy.example.com",
        "http://proxy.example.com",
        "http://:3128",
        "http://proxy:0",
        "http://proxy:65536",
        "http://proxy:port",
        "http://user@proxy:3128",
        "http://:password@proxy:3128",
        "http://us er:password@proxy:3128",
        "http://user:pass@word@proxy:3128",
        "http://proxy:3128/path",
        "http://proxy:3128?query",
        "http://proxy:3128#fragment",
        "http://proxy:3128\r\nX: y",
        "http://pröxy:3128",
        "http://[::1:3128",
        "http://[12345::]:3128",
        "HTTP://proxy:3128",
        "socks5://proxy:1080",
        "ftp://proxy:21",
        "http://user:\ud800@proxy:3128",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (its text is shown to nobody)
        ProxyUrl.parse(text)


def test_no_repr_shows_the_login() -> None:
    user, password = uuid4().hex, uuid4().hex
    place = ProxyUrl.parse(f"http://{user}:{password}@proxy:3128")
    assert place.login is not None
    for secret in (user, password, place.login):
        assert secret not in repr(place)
