"""The syntax of a mission's URL: parse once by the WHATWG standard, refuse doubtful input, rebuild from the parts.

All later code uses only the rebuilt URL, so no second parser can disagree about where it leads. This module refuses the
mistakes that the standard (https://url.spec.whatwg.org/) would repair silently: stripped spaces and controls, backslashes, missing
or surplus slashes, other spellings of an IPv4 address. Producer and worker share this module, which has few imports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from ada_url import join_url, normalize_url

from mission.errors import InvalidMission
from mission.model import Reason

MAX_LENGTH = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}

# \s adds every Unicode space to the controls. Lone surrogates are not text.
_FORBIDDEN = re.compile(r"[\s\\\x00-\x20\x7f-\x9f\ud800-\udfff]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_AUTHORITY = re.compile(r"//([^/?#]+)")
# A name that DNS can hold (RFC 1035, 2.3.4), plus underscores, which do occur; the standard allows more.
_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
# A URL as the standard serialises it (https://url.spec.whatwg.org/#url-serializing): host, port, path with query, no fragment.
# An empty query counts as no query.
_SERIALISED = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[^\[\]/?#@:]*)(?::(\d+))?(/[^?#]*(?:\?[^#]+)?)\??(?:#.*)?")
_TARGET = re.compile(r"/[\x21-\x7e]*")


@dataclass(frozen=True, slots=True, repr=False)
class MissionUrl:
    """A checked URL, which every parser reads the same way. Its repr does not show it.

    Args:
        scheme: `http` or `https`.
        host: as the standard serialises it: lower case, IDNA as ASCII, IPv6 in brackets; no trailing dot.
        port: the effective port, 1 to 65535.
        target: path and query, percent-encoded, printable ASCII, starting with `/`.
    """

    scheme: str
    host: str
    port: int
    target: str

    def __repr__(self) -> str:
        return "MissionUrl()"

    @property
    def authority(self) -> str:
        """The value of the Host header: the host, and the port if it is not the scheme's default."""
        return self.host if self.port == DEFAULT_PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port (RFC 6454, section 4)."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def href(self) -> str:
        """The whole URL, without a fragment."""
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def address(self) -> IPv4Address | IPv6Address | None:
        """The IP address, if the host is one."""
        return _address(self.host)


@lru_cache(maxsize=1024)  # called several times per mission
def _address(host: str) -> IPv4Address | IPv6Address | None:
    if host.startswith("["):
        return IPv6Address(host[1:-1])
    return IPv4Address(host) if _is_ipv4(host) else None


def parse_url(text: str, base: MissionUrl | None = None) -> MissionUrl:
    """The URL that `text` names; with a `base`, `text` may be relative to it (RFC 9110, 10.2.2: Location).

    Raises:
        InvalidMission: with the reason `invalid_url`, `scheme_not_allowed` (neither http nor https) or
            `credentials_in_url`. The detail does not repeat the text.
    """
    if not isinstance(text, str) or not 0 < len(text) <= MAX_LENGTH:
        raise _invalid(f"must have 1 to {MAX_LENGTH} characters")
    if _FORBIDDEN.search(text):
        raise _invalid("contains a space, a control character, a backslash or a lone surrogate: percent-encode it")
    authority = _authority(text, base)
    if "@" in authority:
        raise InvalidMission(Reason.CREDENTIALS_IN_URL, "leave out the user and password before the @")
    try:
        written = join_url(base.href, text) if base else normalize_url(text)
    except ValueError:
        raise _invalid("is not a valid URL by the WHATWG standard") from None
    url = _rebuild(written)
    if authority and _is_ipv4(url.host) and authority.partition(":")[0] != url.host:
        raise _invalid("its IPv4 address must be four decimal numbers")
    return url


def _authority(text: str, base: MissionUrl | None) -> str:
    """The authority as written; empty if a relative text has none."""
    scheme = _SCHEME.match(text)
    if scheme and scheme[1].lower() not in DEFAULT_PORTS:
        raise InvalidMission(Reason.SCHEME_NOT_ALLOWED, "use https:// or http://")
    rest = text[scheme.end() :] if scheme else text
    if scheme or rest.startswith("//"):
        authority = _AUTHORITY.match(rest)
        if authority is None:
            raise _invalid("needs two slashes and a host after the scheme")
        return authority[1]
    if base is None:
        raise _invalid("has no scheme; expected a URL like https://docs.example.com/page")
    return ""


def _is_ipv4(host: str) -> bool:
    """Whether a host is an IPv4 address. The standard refuses every other name that ends in a number."""
    return host.rpartition(".")[2].isdigit()


def _rebuild(written: str) -> MissionUrl:
    parts = _SERIALISED.fullmatch(written)
    # The checks of the text exclude this, unless the parser reads it differently: then nothing about it can be trusted.
    if parts is None:
        raise _invalid("two parsers read it differently")
    scheme, host, port, target = parts.groups()
    host, port = host.removesuffix("."), int(port or DEFAULT_PORTS[scheme])
    if not host.startswith("[") and not _NAME.fullmatch(host):
        raise _invalid("its host is not a valid DNS name")
    if port == 0:
        raise _invalid("its port is 0")
    url = MissionUrl(scheme, host, port, target)
    if not _TARGET.fullmatch(url.target):
        raise _invalid("its path or query is not printable ASCII once encoded")
    if len(url.href) > MAX_LENGTH:
        raise _invalid(f"must have at most {MAX_LENGTH} characters once encoded")
    return url


def _invalid(detail: str) -> InvalidMission:
    return InvalidMission(Reason.INVALID_URL, detail)
