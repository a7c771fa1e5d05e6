"""A separate network: a namespace whose packets iptables can drop. Requires Linux, root, `ip` and `iptables`."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self, TypeVar

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


class NoNetwork(Exception):
    """Such a network cannot be created here; the text says why."""


def in_own_network(call: Callable[[], T]) -> T:
    """What `call` returns, run in a thread with its own loopback, shared by the threads and processes that it starts.

    Raises:
        NoNetwork: nothing was called.
    """

    def run() -> T:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET):
            raise NoNetwork(os.strerror(ctypes.get_errno()))
        _run("ip", "link", "set", "lo", "up")
        _run("iptables", "-L", "INPUT")
        return call()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


class Packets:
    """Drops packets to and from a port of this loopback; a context manager. The port itself stays open."""

    def __init__(self, port: int) -> None:
        self.port = port

    def cut(self) -> None:
        """Drop every packet from now on."""
        for side in ("--dport", "--sport"):
            _run("iptables", "-A", "INPUT", "-p", "tcp", side, str(self.port), "-j", "DROP")

    def heal(self) -> None:
        """Let packets pass again."""
        _run("iptables", "-F", "INPUT")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.heal()


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise NoNetwork(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise NoNetwork(f"{command[0]}: {done.stderr.strip()}")
