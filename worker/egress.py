"""The proxy of `DECODER_EGRESS_PROXY`: what it may be, and what it says."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Self
from urllib.parse import unquote

_WORD = r"[\w.~!$&'()*+,;=%-]"  # of RFC 3986; whatever masks the password reads the same
_PROXY = re.compile(
    rf"(https?)://(?:({_WORD}+):((?:{_WORD}|:)*)@)?(?:([\w.-]{{1,253}})|\[([0-9A-Fa-f:.]+)\]):([0-9]{{1,5}})/?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """Where the proxy is, and who asks there.

    Args:
        tls: whether the way to it is encrypted: `https://`.
        host: a name or an address, IPv6 without brackets.
        port: 1 to 65535.
        login: the value of `Proxy-Authorization` (RFC 7617); None without a login. No repr shows it.
    """

    tls: bool
    host: str
    port: int
    login: str | None = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `http(s)://[user:password@]host:port`; user and password may be percent-encoded.

        Raises:
            ValueError: it is no such thing. Nothing of it is repeated.
        """
        match = _PROXY.fullmatch(text)
        if match is None or not 0 < int(match[6]) < 65536:
            raise ValueError("not a proxy")
        login = None
        if match[2]:
            login = "Basic " + b64encode(f"{unquote(match[2])}:{unquote(match[3])}".encode()).decode()
        return cls(match[1] == "https", match[4] or str(IPv6Address(match[5])), int(match[6]), login)
