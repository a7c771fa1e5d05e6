"""Parser for an entry of the allowlist, `DECODER_ALLOWED_HOSTS`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from mission.errors import InvalidMission
from mission.url import parse_url

_ENTRY = re.compile(r"(?P<wildcard>\*\.)?(?P<host>[^/?#@:*]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """An entry of the allowlist.

    Args:
        name: the host in the form of a parsed URL; the prefix `*.` means its subdomains only.
        port: the port that it opens; None for the default ports of the schemes.
    """

    name: str
    port: int | None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse `host`, `*.host`, `host:port` or `*.host:port`; a host is a name, also in Unicode, or an address.

        Raises:
            ValueError: the text has none of these forms.
        """
        match = _ENTRY.fullmatch(text)
        try:
            url = parse_url(f"http://{match['host']}:{match['port'] or 80}") if match else None
        except InvalidMission:
            url = None
        if match is None or url is None or (match["wildcard"] and url.address):
            raise ValueError(f"{text[:80]!r} is not a host, *.host, host:port or *.host:port")
        return cls((match["wildcard"] or "") + url.host, url.port if match["port"] else None)

    def __str__(self) -> str:
        return self.name if self.port is None else f"{self.name}:{self.port}"
