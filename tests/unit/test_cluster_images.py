"""The cluster's broken releases are built from this tree's sources: the source texts that they replace exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.images import VARIANTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_variant_changes_is_in_its_file_once(variant: str) -> None:
    for file, text, other in VARIANTS[variant]:
        assert (ROOT / file).read_text().count(text) == 1, (file, text)
        assert text != other
