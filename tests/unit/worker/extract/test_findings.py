"""The limits on one document's secrets, and that secrets beyond the limits never take memory."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.errors import MissionFailed
from mission.model import Reason, Secret
from mission.seal.sealing import Identity, seal_secrets
from mission.seal.suites import X25519
from worker.extract import MAX_SECRETS, Detectors, Extractor
from worker.extract.findings import MAX_SECRET_BYTES, Findings

MIB = 1024 * 1024
MARKERS = Detectors(("marker",))
IDENTITY = Identity(X25519, bytes(range(32)))
# Escapes count: a one-byte character of a document may take six bytes in a result, and UTF-8 has no lone surrogates.
VALUES = st.text(st.sampled_from('aé\x00"\\\n𝄞\ud800'), max_size=40)


def plaintext_bytes(secrets: list[Secret]) -> int:
    record = seal_secrets(IDENTITY.recipient, secrets, mission_id="id", token=1)
    return len(IDENTITY.open(record, mission_id="id", token=1))


def gather(secrets: list[Secret], max_bytes: int) -> list[Secret]:
    found = Findings(max_bytes)
    for secret in secrets:
        found.add(secret)
    return found.secrets


@given(st.lists(st.builds(Secret, VALUES, VALUES, VALUES, st.integers(1, 10**7), st.integers(1, 10**7)), min_size=1))
def test_a_result_may_be_as_large_as_is_allowed_and_not_a_byte_larger(secrets: list[Secret]) -> None:
    limit = plaintext_bytes(secrets) + 1  # the last secret counts with a comma, too
    assert gather(secrets, limit) == secrets
    with pytest.raises(MissionFailed) as failure:
        gather(secrets, limit - 1)
    assert failure.value.reason is Reason.RESULT_TOO_LARGE
    assert not failure.value.reason.transient


@pytest.mark.parametrize("sign", ["a", "\x00", "é"])
def test_a_secret_may_be_64_kib_as_it_is_sealed(sign: str) -> None:
    frame = plaintext_bytes([Secret("marker", "K", "", 1, 1)]) - plaintext_bytes([]) + 1
    each = plaintext_bytes([Secret("marker", "K", sign, 1, 1)]) - plaintext_bytes([Secret("marker", "K", "", 1, 1)])
    fits = Secret("marker", "K", sign * ((MAX_SECRET_BYTES - frame) // each), 1, 1)
    assert gather([fits], MIB) == [fits]
    with pytest.raises(MissionFailed, match="result_too_large"):
        gather([Secret("marker", "K", fits.value + sign, 1, 1)], MIB)


def test_more_secrets_than_allowed_fail_the_mission_for_good() -> None:
    with pytest.raises(MissionFailed) as failure:
        Extractor(MARKERS).search("{*a*}" * (MAX_SECRETS + 1))
    assert failure.value.reason is Reason.TOO_MANY_SECRETS
    assert not failure.value.reason.transient


@pytest.mark.parametrize("unit", ["{*" + "a" * 1000 + "*}", "{*" + "\x00" * 1000 + "*}", "{*" + "a" * 9_000_000 + "*}"])
def test_memory_is_bounded_by_the_cap_and_not_by_the_document(unit: str) -> None:
    text = unit * (10 * MIB // len(unit))
    tracemalloc.start()
    try:
        with pytest.raises(MissionFailed, match="result_too_large"):
            Extractor(MARKERS, MIB).search(text)
        assert tracemalloc.get_traced_memory()[1] < 3 * max(MIB, len(unit))
    finally:
        tracemalloc.stop()
