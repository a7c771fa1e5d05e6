"""Parser for the proxy URL of `DECODER_EGRESS_PROXY`."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Self
from urllib.parse import unquote

_WORD = r"[\w.~!$&'()*+,;=%-]"  # of RFC 3986; the code that masks the password parses the same
_PROXY = re.compile(
    rf"(https?)://(?:({_WORD}+):((?:{_WORD}|:)*)@)?(?:([\w.-]{{1,253}})|\[([0-9A-Fa-f:.]+)\]):([0-9]{{1,5}})/?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ProxyUrl:
    """The address of the proxy, and the login for it.

    Args:
        tls: whether the connection to it is encrypted: `https://`.
        host: a name or an address, IPv6 without brackets.
        port: 1 to 65535.
        login: the value of `Proxy-Authorization` (RFC 7617); None without a login. The repr omits it.
    """

    tls: bool
    host: str
    port: int
    login: str | None = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `http(s)://[user:password@]host:port`; user and password may be percent-encoded.

        Raises:
            ValueError: the text does not have this form. The message repeats nothing of it.
        """
        match = _PROXY.fullmatch(text)
        if match is None or not 0 < int(match[6]) < 65536:
            raise ValueError("not a proxy")
        login = None
        if match[2]:
            login = "Basic " + b64encode(f"{unquote(match[2])}:{unquote(match[3])}".encode()).decode()
        return cls(match[1] == "https", match[4] or str(IPv6Address(match[5])), int(match[6]), login)
