"""A tutorial's task for a URL: the code that both peers run."""

from __future__ import annotations

import json
import os
import re
import threading
from typing import Any

import redis
import requests

from benchmarks import RESULTS_VARIABLE, SESSION_VARIABLE

_KEEPS_CONNECTIONS = bool(os.environ.get(SESSION_VARIABLE))
_thread = threading.local()
_MARKED = re.compile(r"\{\*\s*(.*?)\s*\*\}", re.DOTALL)
_results = redis.Redis.from_url(os.environ[RESULTS_VARIABLE])


def decode(number: int, url: str) -> None:
    """Fetch, extract, and store the result in the clear. No ledger, no lease, no policy, no cap, no sealing."""
    text = _client().get(url, timeout=10).text
    _results.set(f"result:{number}", json.dumps(_MARKED.findall(text)))


def _client() -> Any:
    """`requests` itself, as in a tutorial; or, in a tuned setup, one session for each thread."""
    if not _KEEPS_CONNECTIONS:
        return requests
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
    return _thread.session
