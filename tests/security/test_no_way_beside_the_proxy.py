"""With an egress proxy, a fetch connects only to it, and looks up no name if the proxy resolves: observed at the socket.

Runs in a separate process, with an audit hook (PEP 578): `getaddrinfo` queries name servers
through sockets that Python does not see, so the hook watches the call itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.servers.misbehaving import MisbehavingServer
from tests.servers.proxies import PlayingProxy

SCRIPT = """
import json, sys
from tests.servers.fetching import fetching
from worker.fetch.dns import system_lookup
url, proxy, resolve = sys.argv[1:]
seen = []
watched = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname")
sys.addaudithook(lambda event, args: seen.append((event, *map(str, args[-1:] if event == "socket.connect" else args[:1]))) if event in watched else None)
options = dict(allowed_hosts=("localhost", "docs.example", "other.example"), lookup=system_lookup)
with fetching(egress_proxy=proxy, egress_resolve=resolve, **options) as rig:
    body = rig.fetch(url, seconds=20).body
print(json.dumps([len(body), sorted(set(seen))]))
"""


@pytest.fixture
def proxy() -> Iterator[PlayingProxy]:
    with PlayingProxy(MisbehavingServer()) as proxy:
        yield proxy


def fetch(proxy: PlayingProxy, url: str, resolve: str) -> tuple[int, list[list[str]]]:
    """The size of the document, and the addresses connected to or names looked up for it."""
    with MisbehavingServer() as another:
        names = ("http_proxy", "https_proxy", "all_proxy")
        environment = {case(name): another.url("") for name in names for case in (str.lower, str.upper)}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, url, proxy.setting("user:password"), resolve],
            env=os.environ | environment | {"NO_PROXY": "", "no_proxy": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert not another.connections
    size, seen = json.loads(done.stdout)
    return size, seen


def test_a_proxy_that_resolves_is_all_that_is_spoken_to(proxy: PlayingProxy) -> None:
    target = "http://docs.example/redirect?to=http://other.example/ok"
    assert fetch(proxy, target, "proxy") == (27, [["socket.connect", f"('127.0.0.1', {proxy.port})"]])
    assert proxy.asked == ["docs.example:80", "other.example:80"]


def test_else_the_name_is_looked_up_and_that_is_all(proxy: PlayingProxy) -> None:
    size, seen = fetch(proxy, "http://localhost/ok", "worker")
    assert (size, [event for event in seen if event[0] != "socket.getaddrinfo"]) == (
        27,
        [["socket.connect", f"('127.0.0.1', {proxy.port})"]],
    )
    assert ["socket.getaddrinfo", "localhost"] in seen
    assert set(proxy.asked) <= {"127.0.0.1:80", "[::1]:80"}
