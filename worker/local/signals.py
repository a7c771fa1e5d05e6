"""The signals that end a command: each ends its block as Ctrl-C does, but not while a child is started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How many blocks hold the end back, and whether a signal came meanwhile. Handlers run in the main thread alone.
_held = {"blocks": 0, "came": 0}


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, and a second signal not disturb the cleaning up."""

    def end(_signal: int, _frame: object) -> None:
        for number in handled:
            signal.signal(number, signal.SIG_IGN)
        if _held["blocks"]:
            _held["came"] = 1
        else:
            raise KeyboardInterrupt

    # What is ignored already stays so: `nohup` means it.
    handled = {number: signal.getsignal(number) for number in _ENDING}
    handled = {number: handler for number, handler in handled.items() if handler is not signal.SIG_IGN}
    for number in handled:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in handled.items():
            signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold a signal's end back until the block's end: a process that is started within it is known to whoever has to end it.

    Raises:
        KeyboardInterrupt: at the block's end, where a signal came.
    """
    _held["blocks"] += 1
    try:
        yield
    finally:
        _held["blocks"] -= 1
        if _held["came"] and not _held["blocks"]:
            _held["came"] = 0
            raise KeyboardInterrupt
