"""The web-platform-tests' URL corpus: an accepted URL means what the WHATWG standard says, and what it refuses, we refuse.

The corpus is https://github.com/web-platform-tests/wpt/tree/master/url/resources (3-clause BSD); it is not part of this
repository. DECODER_WPT_DIR names its folder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import pytest
from urllib3.util import parse_url as urllib3_parse_url

from mission.errors import InvalidMission
from mission.model import Reason
from mission.url import DEFAULT_PORTS, MissionUrl, parse_url
from tests.conftest import corpus

pytestmark = pytest.mark.full

Case = dict[str, Any]


def _load(name: str) -> list[Case]:
    file = corpus("DECODER_WPT_DIR", name)
    return [case for case in json.loads(file.read_text(encoding="utf-8")) if isinstance(case, dict)]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return _load("urltestdata.json")


@pytest.fixture(scope="module")
def http_cases(cases: list[Case]) -> list[Case]:
    """Cases that the standard parses as http or https, with a base that we can have: another mission's URL, or no base."""
    return [case for case in cases if case.get("protocol") in ("http:", "https:") and _has_our_base(case)]


def _has_our_base(case: Case) -> bool:
    return case["base"] is None or _base(case) is not None or re.match("https?://", case["input"]) is not None


def _base(case: Case) -> MissionUrl | None:
    try:
        return parse_url(case["base"] or "")
    except InvalidMission:
        return None


def _read(case: Case) -> MissionUrl | Reason:
    try:
        return parse_url(case["input"], _base(case))
    except InvalidMission as refusal:
        return refusal.reason


# Our stricter rules: each with its reason and the number of the corpus' cases that it refuses.
_RULES = {
    "empty": (Reason.INVALID_URL, 1),
    "space, control or backslash": (Reason.INVALID_URL, 35),
    "two slashes missing or a third": (Reason.INVALID_URL, 27),
    "userinfo": (Reason.CREDENTIALS_IN_URL, 24),
    "port 0": (Reason.INVALID_URL, 2),
    "another spelling of an IPv4 address": (Reason.INVALID_URL, 16),
    "no name for DNS": (Reason.INVALID_URL, 4),
}


def _rule(case: Case) -> str | None:
    """The rule of ours that a case breaks, derived from its text and from the standard's result."""
    text, host = case["input"], case["hostname"]
    authority = re.match(r"(?:[a-zA-Z]+:)?//([^/?#]*)", text)
    if not text:
        return "empty"
    if any(char.isspace() or ord(char) < 0x21 or 0x7F <= ord(char) <= 0x9F or char == "\\" for char in text):
        return "space, control or backslash"
    if re.match(r"https?:(?!//[^/])|///", text):
        return "two slashes missing or a third"
    if case["username"] or case["password"] or (authority and "@" in authority[1]):
        return "userinfo"
    if case["port"] == "0":
        return "port 0"
    if re.fullmatch(r"[0-9.]+", host.removesuffix(".")) and re.search(r"\d", host):
        return (
            None
            if authority is None or authority[1].partition(":")[0] == host
            else "another spelling of an IPv4 address"
        )
    if not host.startswith("[") and not all(
        re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in host.removesuffix(".").split(".")
    ):
        return "no name for DNS"
    return None


def test_what_the_standard_refuses_is_refused(cases: list[Case]) -> None:
    refused = [case for case in cases if case.get("failure") and _has_our_base(case)]
    assert len(refused) > 250
    assert [case for case in refused if not isinstance(_read(case), Reason)] == []


def test_other_schemes_are_refused(cases: list[Case]) -> None:
    others = [case for case in cases if case.get("protocol", "http:") not in ("http:", "https:")]
    assert len(others) > 200
    assert [case for case in others if not isinstance(_read(case), Reason)] == []


def test_what_is_accepted_means_what_the_standard_says(http_cases: list[Case]) -> None:
    disagreements: list[object] = []
    accepted = [(case, url) for case in http_cases if isinstance(url := _read(case), MissionUrl)]
    for case, url in accepted:
        scheme = case["protocol"].removesuffix(":")
        port = int(case["port"] or DEFAULT_PORTS[scheme])
        expected = MissionUrl(scheme, case["hostname"].removesuffix("."), port, case["pathname"] + case["search"])
        if url != expected:
            disagreements.append((case, url.href))
    assert len(accepted) > 130
    assert disagreements == []


def test_every_further_refusal_follows_from_a_rule_and_has_its_reason(http_cases: list[Case]) -> None:
    found = [(case["input"], _rule(case), reason) for case in http_cases if isinstance(reason := _read(case), Reason)]
    assert [(text, reason) for text, rule, reason in found if rule is None or reason != _RULES[rule][0]] == []
    assert Counter(rule for _, rule, _ in found) == {rule: count for rule, (_, count) in _RULES.items()}


def test_what_breaks_a_rule_is_never_accepted(http_cases: list[Case]) -> None:
    accepted = [case for case in http_cases if isinstance(_read(case), MissionUrl)]
    assert [case["input"] for case in accepted if _rule(case) is not None] == []


def test_other_parsers_read_the_rebuilt_url_alike(http_cases: list[Case]) -> None:
    disagreements: list[object] = []
    for case in http_cases:
        url = _read(case)
        if isinstance(url, Reason):
            continue
        by_urllib, by_urllib3 = urlsplit(url.href), urllib3_parse_url(url.href)
        hosts = {
            url.host,
            f"[{by_urllib.hostname}]" if ":" in (by_urllib.hostname or "") else by_urllib.hostname,
            by_urllib3.host,
        }
        ports = {url.port, by_urllib.port or DEFAULT_PORTS[url.scheme], by_urllib3.port or DEFAULT_PORTS[url.scheme]}
        if len(hosts) > 1 or len(ports) > 1 or parse_url(url.href) != url:
            disagreements.append((url.href, hosts, ports))
    assert disagreements == []


def test_hosts_become_the_ascii_that_the_standard_says() -> None:
    """Beyond the standard we refuse only names that DNS cannot hold: too long, or with an empty label."""
    cases = _load("toascii.json")
    assert len(cases) > 80
    disagreements: list[object] = []
    for case in cases:
        output = case["output"]
        try:
            host = parse_url(f"https://{case['input']}/x").host
        except InvalidMission:
            if output and re.fullmatch(r"(?=.{1,253}$)([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", output):
                disagreements.append((case, None))
        else:
            if output is None or host != output.removesuffix("."):
                disagreements.append((case, host))
    assert disagreements == []
