"""A document of 10 MiB built to be slow: its search ends in time, and still finds the credentials that providers issued."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mission.model import Cut
from tests.credentials import GITHUB_TOKEN, SLACK_TOKEN
from tests.unit.worker.extract.test_generic_rules import WORST
from tests.unit.worker.extract.test_layers import HOSTILE
from worker.extract import Extractor
from worker.extract.extractor import BUDGET_SECONDS

pytestmark = pytest.mark.full

SIZE = 10 * 1024 * 1024
# A piece of the text has a tenth of a second of wall time. A machine that stalls for so long at the wrong moment loses the piece, but
# hardly each time.
ATTEMPTS = 3


def repeated(unit: str) -> Callable[[int], str]:
    return lambda size: (unit * (size // len(unit) + 1))[:size]


CASES = {
    **{f"generic {rule}: {unit}": repeated(unit) for rule, unit in WORST},
    **{f"encoded: {name}": build for name, build in HOSTILE.items()},
    **{
        f"provider: {unit}": repeated(unit)
        for unit in (
            *("ghp_", "AKIA", "sk_live_", "token = ", "aws_secret_access_key=", "https://a:b@c/"),
            *("-----BEGIN RSA PRIVATE KEY-----\n", "secret key token password api ", "A" * 64 + "\n"),
        )
    },
    "marker: {* ": repeated("{* "),
}


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return Extractor()


@pytest.mark.parametrize("build", CASES.values(), ids=map(ascii, CASES))
def test_the_search_ends_in_its_time_and_providers_credentials_are_found(
    extractor: Extractor, build: Callable[[int], str]
) -> None:
    hostile = build(SIZE).encode(errors="replace")[:SIZE]
    body = b"a %s\n%s\nb %s\n" % (GITHUB_TOKEN.encode(), hostile, SLACK_TOKEN.encode())

    values: set[str] = set()
    for _ in range(ATTEMPTS):
        began = time.thread_time()
        found = extractor.extract(body)
        took = time.thread_time() - began

        assert took < BUDGET_SECONDS + 0.3
        values = {secret.value for secret in found if secret.detector == "provider"}
        if GITHUB_TOKEN in values:
            break
    assert GITHUB_TOKEN in values
    assert SLACK_TOKEN in values or Cut.TIME in found.cut  # on a busy machine the time may run out first
