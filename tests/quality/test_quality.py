from __future__ import annotations

from functools import partial

import pytest

from mission.model import Confidence
from tests.quality.corpus import HALVES, Document, Label, documents
from tests.quality.detection import scan
from tests.quality.scoring import Found, score, table

pytest.importorskip("kingfisher_sdk", reason="no wheel of the engine on this platform")


@pytest.mark.parametrize(
    ("half", "least", "precision", "recall"),
    [
        ("seen", Confidence.LOW, 0.94, 0.90),
        ("seen", Confidence.MEDIUM, 0.94, 0.80),
        ("held_out", Confidence.LOW, 0.94, 0.80),
        ("held_out", Confidence.MEDIUM, 0.94, 0.74),
    ],
)
def test_extraction_is_as_good_as_stated(half: str, least: Confidence, precision: float, recall: float) -> None:
    result = score(documents(half), partial(scan, least=least))

    assert (result.precision >= precision, result.recall >= recall) == (True, True), table({half: result})


@pytest.mark.parametrize("half", HALVES)
def test_documents_hold_credentials_and_far_more_lines_without(half: str) -> None:
    for document in documents(half):
        for label in document.labels:
            assert label.value in document.text.split("\n")[label.line - 1]
            assert len(label.value) >= 6
    labels = sum(len(document.labels) for document in documents(half))
    lines = sum(len(document.text.split("\n")) for document in documents(half))
    assert labels >= 90
    assert lines >= 3 * labels


def test_documents_are_the_same_each_time() -> None:
    assert list(documents("seen")) == list(documents("seen"))


def test_a_score_tells_what_is_missed_and_what_is_false() -> None:
    document = Document("a", "x", (Label(1, "password", "abc123def"), Label(3, "hex", "cafe0123")))
    found = [Found(1, "password", "abc123def"), Found(2, "key", "other-value")]

    result = score([document], lambda _: found)

    assert (result.true, result.precision, result.recall, result.f1) == (1, 0.5, 0.5, 0.5)
    assert result.missed == [("a", 3, "hex", "cafe0123")]
    assert result.false == [("a", 2, "key", "other-value")]
    assert "a:2 key: other-value" in table({"set": result})
