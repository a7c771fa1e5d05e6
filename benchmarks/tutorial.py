"""What a tutorial's task does with a URL: the body that both peers run."""

from __future__ import annotations

import json
import os
import re

import redis
import requests

from benchmarks import RESULTS_VARIABLE

_MARKED = re.compile(r"\{\*\s*(.*?)\s*\*\}", re.DOTALL)
_results = redis.Redis.from_url(os.environ[RESULTS_VARIABLE])


def decode(number: int, url: str) -> None:
    """Fetch, extract, and keep the result in clear. No ledger, no lease, no policy, no cap, no sealing."""
    text = requests.get(url, timeout=10).text
    _results.set(f"result:{number}", json.dumps(_MARKED.findall(text)))
