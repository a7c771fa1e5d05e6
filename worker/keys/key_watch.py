"""Which keys a worker seals and encrypts with stands in the audit, and each change of them, whoever made it.

A stolen deployment that seals to another key would otherwise show in a log line at most. Workers have a chain of their own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from mission.audit.log import AuditLog
from mission.errors import AuditError
from worker.keys.refresh import REFRESH_SECONDS

log = logging.getLogger("decoder.keys")

ACTION = "key-change"
_NONE = "none"


class KeyWatch:
    """A thread that looks at the keys every few seconds until it is stopped.

    Args:
        in_use: asked for the id of each key, by the setting that gives it.
        audit: the chain of the keys.
    """

    def __init__(self, in_use: Callable[[], Mapping[str, str]], audit: AuditLog) -> None:
        self._in_use = in_use
        self._audit = audit
        self._seen: dict[str, str] = {}
        self._troubled = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="key-watch", daemon=True)

    def start(self) -> None:
        """Begin, with a look at once."""
        self._thread.start()

    def stop(self) -> None:
        """End after the look under way."""
        self._stopped.set()

    def look(self) -> None:
        """Record what is in use and was not when this worker looked last, unless another one has recorded it.

        Raises:
            AuditError: not all of it is on record; the next look tries again.
        """
        now = dict(self._in_use())
        changed = {name for name in now.keys() | self._seen.keys() if self._seen.get(name) != now.get(name)}
        if not changed:
            return
        recorded = {entry.why: (entry.key_id or "").partition(">")[2] for entry in self._audit.entries()}
        for name in sorted(changed):
            before, after = recorded.get(name, _NONE), now.get(name, _NONE)
            if before != after:
                self._audit.append(ACTION, mission_id=None, key_id=f"{before}>{after}", why=name, outcome="in use")
        self._seen = now

    def _loop(self) -> None:
        while True:
            try:
                self.look()
                self._troubled = False
            except AuditError as error:
                if not self._troubled:
                    log.error("which keys are in use is not on record: %s", error)
                self._troubled = True
            except Exception as error:
                log.exception("the key watch met an unexpected %s", type(error).__name__)
            if self._stopped.wait(REFRESH_SECONDS):
                return
