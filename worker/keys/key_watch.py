"""The key watch: records in the audit log which keys a worker uses, and every change of them.

Otherwise a stolen deployment that seals to another key would show in a log line at most. Workers have their own audit chain.
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
    """A thread that checks the keys every few seconds until it is stopped.

    Args:
        in_use: returns the id of each key, by the setting that it comes from.
        audit: the audit chain for keys.
    """

    def __init__(self, in_use: Callable[[], Mapping[str, str]], audit: AuditLog) -> None:
        self._in_use = in_use
        self._audit = audit
        self._seen: dict[str, str] = {}
        self._troubled = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="key-watch", daemon=True)

    def start(self) -> None:
        """Start, with a check at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current check."""
        self._stopped.set()

    def look(self) -> None:
        """Record changes since this worker's last check, unless another worker has recorded them.

        Raises:
            AuditError: not all changes are recorded; the next check tries again.
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
                    log.error("cannot record the keys in use: %s", error)
                self._troubled = True
            except Exception as error:
                log.exception("the key watch met an unexpected %s", type(error).__name__)
            if self._stopped.wait(REFRESH_SECONDS):
                return
