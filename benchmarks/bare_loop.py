"""The bare loop, `python -m benchmarks.bare_loop NUMBER`: fetch, extract, seal, SET. No queue, no policy, no accounting.

Every system with a queue does at least this work, so two such processes are the upper limit. Process NUMBER runs on the same core as the
decoder's worker process of that number.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from typing import cast

import redis
import requests

from benchmarks import BROKER_VARIABLE, PROCESSES, RECIPIENT_VARIABLE, RESULTS_VARIABLE
from mission.seal.sealing import load_recipient, seal_secrets
from worker.extract import Extractor
from worker.local.processes import core_of

SHARES = "shares"


def mission_id(number: int) -> str:
    """A substitute for the id that a queue would give."""
    return str(uuid.UUID(int=number))


def main() -> None:
    """Process one share after the other; each is a list of numbers and URLs."""
    if (core := core_of(int(sys.argv[1]), PROCESSES)) is not None:
        os.sched_setaffinity(0, {core})
    shares, results = (redis.Redis.from_url(os.environ[name]) for name in (BROKER_VARIABLE, RESULTS_VARIABLE))
    recipient, extractor, session = load_recipient(os.environ[RECIPIENT_VARIABLE]), Extractor(), requests.Session()
    print("ready", flush=True)
    while True:
        _, share = cast("tuple[bytes, bytes]", shares.blpop([SHARES]))
        for number, url in json.loads(share):
            secrets = extractor.search(session.get(url, timeout=10).text)
            results.set(
                f"result:{number}", seal_secrets(recipient, secrets, mission_id=mission_id(number), token=number)
            )


if __name__ == "__main__":
    main()
