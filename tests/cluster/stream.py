"""An app for a pod: it enqueues missions at a steady rate whatever happens to Redis, and reports their progress and final states.

Prints a line of JSON a second. Once STOP exists and enough missions were accepted, it waits for the last end, opens every result, and
prints the verdict.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import cast

import redis

from mission.audit.log import AuditLog
from mission.errors import DecoderError
from mission.operate.results import ResultReader
from mission.seal.sealing import load_identity
from mission.store.names import Key
from producer import LedgerUnavailable, MissionClient, State

STOP = Path("/tmp/stop")
# The number of secrets in each document.
SECRETS = 3


def main() -> None:
    """Arguments: missions a second, the minimum number of missions, and URLs to use in turns."""
    pace, least, urls = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    client = MissionClient.from_env()
    accepted: dict[str, float] = {}
    unfinished: set[str] = set()
    due = told = time.time()
    while len(accepted) < least or not STOP.exists() or unfinished:
        now = time.time()
        try:
            if now >= due and not (len(accepted) >= least and STOP.exists()):
                # Safe after any answer to the last try: the same key is the same mission.
                number = len(accepted)
                ticket = client.enqueue(f"{urls[number % len(urls)]}?{number}", idempotency_key=f"stream-{number}")
                accepted[ticket.id] = now
                unfinished.add(ticket.id)
                due = max(due + 1 / pace, now - 1)
            if now >= told + 1:
                unfinished -= {status.id for status in client.statuses(unfinished) if status and status.finished}
                told = now
                oldest = now - min((accepted[id_] for id_ in unfinished), default=now)
                _tell(at=now, accepted=len(accepted), unfinished=len(unfinished), oldest=round(oldest, 1))
        except LedgerUnavailable:
            _tell(at=now, away=True)
            time.sleep(0.5)
        time.sleep(max(0.0, min(due, told + 1) - time.time()))
    # Dead missions that have been replayed since.
    for _ in client.follow(accepted, timeout=300):
        pass
    _tell(verdict=verdict(client, list(accepted)))


def verdict(client: MissionClient, ids: list[str]) -> dict[str, int]:
    """Counts of these missions: by state, lost, doubled, unreadable."""
    count: Counter[str] = Counter(accepted=len(ids), lost=0, doubled=0, unreadable=0)
    with redis.Redis.from_url(os.environ["OWNER_REDIS_URL"]) as owner:
        reader = ResultReader(owner, [load_identity(_identity())], AuditLog(owner, emit=lambda _: None))
        for id_, status in zip(ids, client.statuses(ids), strict=True):
            count[str(status.state) if status else "lost"] += 1
            if status and status.state is State.SUCCEEDED:
                try:
                    found = len(reader.reveal(id_, reason="the test counts"))
                except DecoderError:
                    found = 0
                count["unreadable"] += found != SECRETS
        # The counted ends, and the missions that have ended.
        ends = int(cast("bytes", owner.hget(Key.FINISHED, State.SUCCEEDED)))
        states = [owner.hget(key, "state") for key in owner.scan_iter(f"{Key.ENTRY}*", count=1000)]
        count["doubled"] = ends - states.count(State.SUCCEEDED.encode())
    return dict(count)


def _identity() -> Path:
    """Write the reader's key to a file that only its owner may read, as required."""
    file = Path("/tmp/identity")
    file.touch(mode=0o600)
    file.write_text(os.environ["IDENTITY"] + "\n")
    return file


def _tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
