"""The model of missions and secrets that both sides share."""

from __future__ import annotations

from dataclasses import asdict

from mission.model import MASK, Confidence, Secret

SECRET = Secret("marker", "API_KEY", "canary-4711", 3, 14)
FOUND = Secret("provider", "github-pat", "canary-4711", 3, 14, Confidence.HIGH, "a.zip!b", "base64", 2)


def test_a_secret_is_printed_with_each_of_its_fields_and_read_back_the_same() -> None:
    for secret in (SECRET, FOUND):
        assert secret.as_dict() == asdict(secret)
        assert Secret.from_dict(secret.as_dict()) == Secret.from_dict(secret.stored()) == secret
    assert set(FOUND.stored()) - set(SECRET.stored()) == {"confidence", "path", "encoding", "count"}


def test_a_masked_secret_is_the_same_but_for_its_value() -> None:
    assert SECRET.as_dict(show=False) == SECRET.as_dict() | {"value": MASK}
