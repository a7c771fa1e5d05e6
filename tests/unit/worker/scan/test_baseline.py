"""Fingerprints: equal for the same secret, and no help in guessing it."""

from dataclasses import replace

import pytest

from mission.model import Confidence, Secret
from worker.scan.baseline import Baseline, fingerprint

SECRET = Secret("generic", "password", "hunter2", 3, 5, Confidence.MEDIUM, "app/.env")


def test_the_line_the_confidence_and_the_way_to_it_do_not_count() -> None:
    moved = replace(SECRET, line=9, column=1, confidence=Confidence.LOW, encoding="base64", count=4)
    assert fingerprint("a", moved) == fingerprint("a", SECRET)


@pytest.mark.parametrize(
    "other", [replace(SECRET, detector="marker"), replace(SECRET, category="token"), replace(SECRET, path="app/env")]
)
def test_detector_category_and_member_count(other: Secret) -> None:
    assert fingerprint("a", other)[:30] != fingerprint("a", SECRET)[:30]


def test_the_file_counts() -> None:
    assert fingerprint("a", SECRET)[:30] != fingerprint("b", SECRET)[:30]


def test_of_the_value_there_is_a_byte_and_no_more() -> None:
    """So a changed value is noticed, but no guess is proved right."""
    marks = {fingerprint("a", replace(SECRET, value=f"guess {number}")) for number in range(10_000)}
    assert len({mark[:30] for mark in marks}) == 1
    assert len(marks) == 256


def test_names_and_values_that_are_no_unicode_have_one() -> None:
    assert len(fingerprint("a\udcff", replace(SECRET, value="\ud800", path="\ud800"))) == 32


def test_a_baseline_knows_each_as_often_as_it_was_found() -> None:
    baseline = Baseline(["a", "b", "a"])
    assert [baseline.knows(mark) for mark in "aaacb"] == [True, True, False, False, True]
    assert baseline.known == 3
