"""What a `Retry-After` field asks for."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from worker.fetch.retry_after import MAX_RETRY_AFTER, parse_retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("3600", 3600),
        ("99999", MAX_RETRY_AFTER),
        ("9" * 10, MAX_RETRY_AFTER),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER),
    ],
)
def test_reads_seconds_and_dates(value: str, seconds: float) -> None:
    assert parse_retry_after(value) == seconds


@pytest.mark.parametrize("left_out", ["", " GMT"])
def test_a_date_is_so_far_from_now(left_out: str) -> None:
    seconds = parse_retry_after(formatdate(time.time() + 100, usegmt=True).removesuffix(left_out))
    assert seconds is not None
    assert 90 <= seconds <= 100


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "-1",
        "1.5",
        "soon",
        "1e3",
        "٣",
        "9" * 11,
        "Fri, 99 Dec 1999 23:59:59 GMT",
        "Fri, 31 Dec 99999 23:59:59 GMT",
    ],
)
def test_takes_nothing_else(value: str | None) -> None:
    assert parse_retry_after(value) is None
