"""A web site that is no bottleneck: small documents with three secrets each, made beforehand, over kept-alive connections.

`python -m benchmarks.site [SECONDS]` serves on loopback, each answer after so many seconds, and prints its port.
"""

from __future__ import annotations

import asyncio
import sys

SECRETS = 3
DELAY_SECONDS = float(sys.argv[1]) if __name__ == "__main__" and len(sys.argv) > 1 else 0.0
_DOCUMENTS = 64
_FILLER = "The quick brown fox jumps over the lazy dog, and nobody minds. " * 10


def document(number: int) -> str:
    """About 2 KB of text with `SECRETS` secrets in it."""
    marked = (
        f"{{* PASSWORD: horse-battery-{number} *}}",
        f"{{* API_KEY: sample-{number:04d}-1111 *}}",
        f"{{* no category, number {number} *}}",
    )
    return "\n".join(f"{_FILLER}\n{secret}" for secret in marked) + "\n"


def _answer(number: int) -> bytes:
    body = document(number).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


_ANSWERS = [_answer(number) for number in range(_DOCUMENTS)]


class _Site(asyncio.Protocol):
    """Answers `GET /NUMBER`; whatever else a request says is read over."""

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
    server = await asyncio.get_running_loop().create_server(_Site, "127.0.0.1", 0, backlog=1024)
    sys.stdout.write(f"port {server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
