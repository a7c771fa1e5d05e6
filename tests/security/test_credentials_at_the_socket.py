"""A credential goes only to its own entry, over TLS: observed at the sockets, not at the policy.

Every host of these tests is on 127.0.0.1. Each entry has its own canary, and a socket may receive only the
canary of that host and port, however a redirect spells its target.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from mission.errors import MissionFailed
from mission.model import Reason
from mission.url import parse_url
from tests.servers.certificates import Authority
from tests.servers.fetching import Fetching, fetching
from tests.servers.misbehaving import DOCUMENT, MisbehavingServer
from tests.servers.tokens import TokenServer

DOCS, WIKI, OTHER, IDNA = "docs.example", "wiki.example", "other.example", "xn--bcher-kva.example"
# Names on the certificate besides the entries: hosts that a spelling could be mistaken for.
CYRILLIC = "d\u043ecs.example"
LOOKALIKES = ("xdocs.example", "docs.example.other.example", parse_url(f"https://{CYRILLIC}/").host, "docs.examplex")
WILD = ("a.wild.example", "a.b.wild.example", "bare.wild.example", "own.wild.example")
CODES = (301, 302, 303, 307, 308)
_HOST = re.compile(rb"\r\nHost: ([^\r]*)\r\n")


@dataclass
class Places:
    """Possible destinations: two TLS servers and a plain one, each with all names, and the canary of each entry."""

    tls: MisbehavingServer
    tls_port: MisbehavingServer
    plain: MisbehavingServer
    tokens: TokenServer
    canaries: dict[str, str]
    rig: Fetching

    def arrived(self) -> Iterator[tuple[str, set[str]]]:
        """For each request that arrived: scheme, host and port, and the owners of the canaries anywhere in it."""
        for scheme, server in (("https", self.tls), ("https", self.tls_port), ("http", self.plain)):
            for head in server.heads:
                found = _HOST.search(head)
                assert found
                host = found[1].decode().partition(":")[0]
                yield (
                    f"{scheme}://{host}:{server.port}",
                    {entry for entry, canary in self.canaries.items() if canary.encode() in head},
                )

    def forget(self) -> None:
        for server in (self.tls, self.tls_port, self.plain):
            server.heads.clear()

    def expected(self, origin: str) -> set[str]:
        """The owner of the canary that belongs there."""
        scheme, _, place = origin.partition("://")
        host, _, port = place.partition(":")
        if scheme == "http":
            return {place} if host == "127.0.0.1" and int(port) == self.plain.port else set()
        if int(port) != self.tls.port:
            return set()
        if host.endswith(".wild.example"):
            # A host's own entry hides the wildcard's, even if it has no credentials.
            return {"own.wild.example": {host}, "bare.wild.example": set()}.get(host, {"*.wild.example"})
        return {host} & {DOCS, WIKI, IDNA}

    def hold(self, *, at_least: int = 1) -> None:
        """Assert that every socket received exactly the canaries that belong there."""
        seen = list(self.arrived())
        assert len(seen) >= at_least
        for origin, found in seen:
            assert found == self.expected(origin), origin


@contextmanager
def places(folder: Path) -> Iterator[Places]:
    names = (DOCS, WIKI, OTHER, IDNA, *LOOKALIKES, *WILD, "127.0.0.1", "localhost", "login.example")
    authority = Authority(folder)
    with ExitStack() as pieces:
        tls, tls_port = (pieces.enter_context(MisbehavingServer(authority.context(*names))) for _ in range(2))
        plain = pieces.enter_context(MisbehavingServer())
        tokens = pieces.enter_context(TokenServer(authority.context("login.example"), prefix=secrets.token_hex(16)))
        entries = [DOCS, WIKI, IDNA, "*.wild.example", "own.wild.example"]
        canaries = {entry: secrets.token_hex(16) for entry in entries}
        text = "".join(
            f'["{entry}:{tls.port}".headers]\nX-Key = "{canary}"\nCookie = "session={canary}"\n'
            for entry, canary in canaries.items()
            if entry != WIKI
        )
        # A token is a canary, like a header.
        text += (
            f'["{WIKI}:{tls.port}".oauth2]\ntoken-url = "{tokens.url("login.example")}"\nclient-id = "decoder"\n'
            f'client-secret = "{secrets.token_hex(16)}"\n'
        )
        canaries[WIKI] = tokens.prefix
        # Only one of these is ever sent in clear.
        for host in ("127.0.0.1", DOCS, "localhost"):
            entry = f"{host}:{plain.port}"
            canaries[entry] = secrets.token_hex(16)
            text += f'["{entry}".headers]\nX-Key = "{canaries[entry]}"\n'
        file = folder / "credentials.toml"
        file.touch(0o600)
        file.write_text(text)
        listed = (*(name for name in names if name not in WILD[:2]), "*.wild.example")
        hosts = [f"{name}:{server.port}" for server in (tls, tls_port, plain) for name in listed]
        rig = pieces.enter_context(
            fetching(
                allowed_hosts=(*hosts, f"login.example:{tokens.port}"),
                credentials=file,
                ca_file=authority.ca_file,
                max_redirects=5,
            )
        )
        yield Places(tls, tls_port, plain, tokens, canaries, rig)


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    with places(tmp_path_factory.mktemp("places")) as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(there: Places) -> None:
    there.forget()


def spellings(here: Places) -> list[str]:
    """Targets of redirects: the same origin, and others that look like it."""
    own, other, plain = here.tls.port, here.tls_port.port, here.plain.port
    hosts = [
        *(
            "docs.example",
            "DOCS.Example",
            "docs.example.",
            "docs。example",
            "docs\uff0eexample",
            "\uff44\uff4f\uff43\uff53.example",
        ),
        *(
            "docs%2Eexample",
            "%64ocs.example",
            "docs.example%2E",
            "docs.example..",
            ".docs.example",
            "docs\u00ad.example",
        ),
        *("wiki.example", "WIKI.example.", "other.example", "Other.Example.", *LOOKALIKES, CYRILLIC),
        *("bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example", "bu\u0308cher.example"),
        *WILD,
        *("wild.example", "A.WILD.example", "own.wild.example.", "x.own.wild.example", "localhost"),
        *("127.0.0.1", "127.0.0.1.", "127.1", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "127。0。0。1"),
        *(
            "user@docs.example",
            "docs.example@other.example",
            "user:docs.example@other.example",
            "docs.example:80@other.example",
        ),
        *(
            "docs.example%00.other.example",
            "docs.example\\.other.example",
            "docs.example\t",
            "other.example#@docs.example",
        ),
        *("other.example?@docs.example", "other.example/@docs.example", "docs.example%2f.other.example"),
    ]
    places = [
        f"{scheme}://{host}:{port}/ok"
        for host in hosts
        for scheme, port in (("https", own), ("https", other), ("http", plain))
    ]
    return [
        *places,
        *(
            "/ok",
            "ok",
            "?to=/ok",
            "//docs.example/ok",
            "https:/ok",
            "https:ok",
            "https:///ok",
            "///ok",
            "\\\\other.example/ok",
        ),
        *(f"//{host}:{own}/ok" for host in ("docs.example", "other.example", "wiki.example")),
        *(f"HTTPS://{host}:0{own}/ok" for host in ("docs.example", "other.example")),
        f"http://docs.example:{own}/ok",
        f"https://docs.example:{plain}/ok",
        f"https://docs.example:{own + 65536}/ok",
        f"http:docs.example:{plain}/ok",
    ]


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("start", [DOCS, OTHER, WIKI])
def test_no_redirect_of_any_kind_takes_a_credential_along(there: Places, code: int, start: str) -> None:
    reached = set()
    for spelling in spellings(there):
        there.forget()
        with suppress(MissionFailed):
            there.rig.fetch(f"https://{start}:{there.tls.port}/redirect?code={code}&to={quote(spelling)}")
        there.hold()
        reached |= {origin for origin, _ in there.arrived()}
    # The spellings covered the same origin, every kind of other origin, and plain HTTP.
    own, other, plain = there.tls.port, there.tls_port.port, there.plain.port
    assert reached >= {
        *(f"https://{host}:{own}" for host in (DOCS, WIKI, OTHER, IDNA, *WILD, "127.0.0.1", "xdocs.example")),
        *(f"https://{host}:{other}" for host in (DOCS, OTHER)),
        *(f"http://{host}:{plain}" for host in (DOCS, WIKI, "127.0.0.1")),
    }


def test_each_place_on_a_long_way_gets_its_own_and_nothing_of_the_one_before(there: Places) -> None:
    own, plain = there.tls.port, there.plain.port
    way = f"https://{DOCS}:{own}/ok"
    for place in (
        f"https://{WIKI}:{own}",
        f"http://{DOCS}:{plain}",
        f"https://own.wild.example:{own}",
        f"https://{OTHER}:{own}",
        f"https://{DOCS}:{own}",
    ):
        way = f"{place}/redirect?to={quote(way)}"
    assert there.rig.fetch(way).body == DOCUMENT
    there.hold(at_least=6)


def test_a_credential_is_of_a_request_and_not_of_the_connection_that_is_kept(there: Places) -> None:
    """Names that share an address and a port, one after the other, twice."""
    for host in (DOCS, OTHER, WIKI, "a.wild.example", "own.wild.example") * 3:
        for server in (there.tls, there.tls_port):
            there.rig.fetch(f"https://{host}:{server.port}/ok")
        there.rig.fetch(f"http://{host}:{there.plain.port}/ok")
    there.rig.fetch(f"http://127.0.0.1:{there.plain.port}/ok")
    there.rig.fetch(f"http://localhost:{there.plain.port}/ok")
    there.hold(at_least=47)


def test_a_token_is_asked_for_without_any_other_credential_and_sent_to_no_token_server(there: Places) -> None:
    there.rig.fetch(f"https://{WIKI}:{there.tls.port}/ok")
    assert there.tokens.asked
    for fields, form in there.tokens.asked:
        assert not {value for value in there.canaries.values() if value in repr((fields, form))}
        assert set(fields) == {
            *("Host", "User-Agent", "Accept", "Accept-Encoding", "Authorization", "Content-Type", "Content-Length")
        }


@pytest.mark.parametrize("code", CODES)
def test_a_token_server_that_redirects_gets_nobody_the_clients_secret(code: int, tmp_path: Path) -> None:
    with places(tmp_path) as there:
        location = f"https://{OTHER}:{there.tls.port}/ok"
        there.tokens.answer = lambda _number: (code, {"Location": location}, b"")
        with pytest.raises(MissionFailed) as caught:
            there.rig.fetch(f"https://{WIKI}:{there.tls.port}/ok")
        assert caught.value.reason is Reason.CREDENTIALS_REFUSED
        assert list(there.arrived()) == []
        assert len(there.tokens.asked) == 1


def test_who_answers_in_the_hosts_place_gets_no_credential(tmp_path: Path) -> None:
    """A redirection by DNS or on the network: no request is sent to a server without the host's certificate."""
    trusted, other = Authority(tmp_path), Authority(tmp_path)
    with MisbehavingServer(other.context(DOCS)) as false:
        file = tmp_path / "credentials.toml"
        file.touch(0o600)
        file.write_text(f'["{DOCS}:{false.port}".headers]\nX-Key = "{secrets.token_hex(16)}"\n')
        with (
            fetching(allowed_hosts=(f"{DOCS}:{false.port}",), credentials=file, ca_file=trusted.ca_file) as rig,
            pytest.raises(MissionFailed) as caught,
        ):
            rig.fetch(f"https://{DOCS}:{false.port}/ok")
        assert caught.value.reason is Reason.TLS_FAILURE
        assert false.heads == []
