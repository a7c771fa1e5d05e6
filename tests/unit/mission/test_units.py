"""Durations, sizes and large numbers as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.units import format_duration, format_size, parse_count, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("90s", 90),
        ("5m", 300),
        ("24h", 86400),
        ("7d", 604800),
        ("1.5h", 5400),
        ("30", 30),
        (" 2 m ", 120),
    ],
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", [3, 0.25])
def test_a_number_is_seconds(value: float) -> None:
    assert parse_duration(value) == value


@pytest.mark.parametrize("value", ["", "soon", "-5s", "5 weeks", "1e3", "nan", "inf", "5s5", "9" * 400, True, None])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(value)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_formatted_duration_reads_back_as_the_same(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(604800, "7d"), (90, "90s"), (5400, "90m"), (0.5, "0.5s"), (1_000_001, "1000001s"), (0, "0s")],
)
def test_a_duration_is_written_in_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(10 * 1024**2, "10MiB"), (1536, "1536B"), (2048, "2KiB"), (1024**3, "1GiB")]
)
def test_a_size_has_its_shortest_exact_text(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("text", "count"), [("50M", 50_000_000), ("1.5G", 1_500_000_000), ("250k", 250_000), ("12", 12), (" 2 k ", 2000)]
)
def test_a_number_may_end_with_its_thousands(text: str, count: float) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "many", "-5", "5MB", "1e3", "nan", "inf", "5M5", "9" * 400, "5K", "5m"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        parse_count(text)
