"""What both sides say of missions and secrets."""

from __future__ import annotations

from dataclasses import asdict

from mission.model import MASK, Secret

SECRET = Secret("marker", "API_KEY", "canary-4711", 3, 14)


def test_a_secret_is_printed_with_each_of_its_fields_and_read_back_the_same() -> None:
    assert SECRET.as_dict() == asdict(SECRET)
    assert Secret.from_dict(SECRET.as_dict()) == SECRET


def test_a_masked_secret_is_the_same_but_for_its_value() -> None:
    assert SECRET.as_dict(show=False) == SECRET.as_dict() | {"value": MASK}
