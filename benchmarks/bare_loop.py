"""The bare loop, `python -m benchmarks.bare_loop`: fetch, extract, seal, SET. No queue, no policy, nothing kept account of.

Whatever has a queue does all of this as well: two processes of it are the limit.
"""

from __future__ import annotations

import json
import os
import uuid
from typing import cast

import redis
import requests

from benchmarks import BROKER_VARIABLE, RECIPIENT_VARIABLE, RESULTS_VARIABLE
from mission.seal.sealing import load_recipient, seal_secrets
from worker.extract.markers import Extractor

SHARES = "shares"


def mission_id(number: int) -> str:
    """Stands for an id that a queue would give."""
    return str(uuid.UUID(int=number))


def main() -> None:
    """Work off one share after the other: a list of numbers and URLs each."""
    shares, results = (redis.Redis.from_url(os.environ[name]) for name in (BROKER_VARIABLE, RESULTS_VARIABLE))
    recipient, extractor, session = load_recipient(os.environ[RECIPIENT_VARIABLE]), Extractor(), requests.Session()
    print("ready", flush=True)
    while True:
        _, share = cast("tuple[bytes, bytes]", shares.blpop([SHARES]))
        for number, url in json.loads(share):
            secrets = extractor.extract(session.get(url, timeout=10).text)
            results.set(
                f"result:{number}", seal_secrets(recipient, secrets, mission_id=mission_id(number), token=number)
            )


if __name__ == "__main__":
    main()
