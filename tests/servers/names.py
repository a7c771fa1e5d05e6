"""A small DNS server on UDP that gives a test's answers, or none at all."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress

import dns.flags
import dns.message
import dns.query
import dns.rdatatype
import dns.rrset

Answer = Sequence[str] | None


class NameServer:
    """Answers each query for an A record with the next of `answers`; None: it stays silent. The last one repeats.

    `lookup` asks it over UDP, as a worker's resolver would; `queries` counts the queries.
    """

    def __init__(self, *answers: Answer) -> None:
        self.queries = 0
        self._answers: Iterator[Answer] = iter(answers)
        self._last: Answer = None
        self._stopping = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.1)
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)
        self._socket.close()

    def lookup(self, host: str, port: int) -> list[str]:
        """The addresses that this server gives a host; waits up to 3 s."""
        query = dns.message.make_query(host, dns.rdatatype.A)
        response = dns.query.udp(query, "127.0.0.1", port=self.port, timeout=3)
        return [str(record) for rrset in response.answer for record in rrset]

    def _serve(self) -> None:
        while not self._stopping.is_set():
            with suppress(TimeoutError):
                wire, client = self._socket.recvfrom(4096)
                self.queries += 1
                self._last = next(self._answers, self._last)
                if self._last is not None:
                    self._socket.sendto(self._respond(wire, self._last), client)

    @staticmethod
    def _respond(wire: bytes, addresses: Sequence[str]) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(wire))
        response.flags |= dns.flags.RA
        response.answer.append(dns.rrset.from_text(response.question[0].name, 0, "IN", "A", *addresses))
        return response.to_wire()
