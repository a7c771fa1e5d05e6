"""A web site fast enough not to be the bottleneck. It serves small prepared documents with three secrets each, over kept-alive connections.

`python -m benchmarks.site [SECONDS [HOSTS [BYTES]]]` serves on HOSTS loopback addresses and delays each answer by SECONDS. Documents
are at least BYTES long. It prints its port, which is the same for all addresses.
"""

from __future__ import annotations

import asyncio
import sys

SECRETS = 3
_ARGUMENTS = sys.argv[1:] if __name__ == "__main__" else []
DELAY_SECONDS, HOSTS, LEAST_BYTES = (
    float(_ARGUMENTS[i]) if i < len(_ARGUMENTS) else least for i, least in enumerate((0, 1, 0))
)
_DOCUMENTS = 64 if LEAST_BYTES < 1_000_000 else 2
_FILLER = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 10


def document(number: int) -> str:
    """About 2 KB of text with `SECRETS` secrets in it."""
    marked = (
        f"{{* PASSWORD: horse-battery-{number} *}}",
        f"{{* API_KEY: sample-{number:04d}-1111 *}}",
        f"{{* no category, number {number} *}}",
    )
    text = "\n".join(f"{_FILLER}\n{secret}" for secret in marked) + "\n"
    return text + _FILLER * max(0, round((LEAST_BYTES - len(text)) / len(_FILLER)))


def addresses(hosts: int) -> list[str]:
    """The site's addresses; all of 127.0.0.0/8 is loopback (Linux)."""
    return [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(hosts)]


def _answer(number: int) -> bytes:
    body = document(number).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_ANSWERS = [_answer(number) for number in range(_DOCUMENTS)]


class _Site(asyncio.Protocol):
    """Answers `GET /NUMBER`; ignores the rest of the request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._received = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._received = (self._received + data).split(b"\r\n\r\n")
        for request in requests:
            number = int(request[request.index(b"/") + 1 : request.index(b" HTTP")])
            if DELAY_SECONDS:
                asyncio.get_running_loop().call_later(
                    DELAY_SECONDS, self._transport.write, _ANSWERS[number % _DOCUMENTS]
                )
            else:
                self._transport.write(_ANSWERS[number % _DOCUMENTS])


async def _serve() -> None:
    first, *others = addresses(int(HOSTS))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Site, first, 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    servers = [server, *[await loop.create_server(_Site, host, port, backlog=1024) for host in others]]
    sys.stdout.write(f"port {port}\n")
    sys.stdout.flush()
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    asyncio.run(_serve())
