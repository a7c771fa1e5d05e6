"""For any document, every detector ends, and raises only the declared refusal."""

from __future__ import annotations

import base64
import gzip
import time
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mission.errors import MissionFailed
from tests.credentials import AWS_SECRET, GITHUB_TOKEN, PASSWORD, SLACK_TOKEN
from tests.unit.worker.extract.test_archives import tarred, zipped
from worker.extract import Detectors, Extractor
from worker.extract.extractor import BUDGET_SECONDS
from worker.extract.findings import REFUSALS

PACK = """
[[rules]]
id = 'acme'
regex = '''acme-([a-z0-9]{8})'''
keywords = ["acme"]
entropy = 2.0
[[rules.allowlists]]
stopwords = ["sample"]
[[rules]]
id = 'pair'
regex = '''user=[a-z]+'''
[[rules.required]]
id = 'acme'
withinLines = 3
"""

_WORDS = [
    *(GITHUB_TOKEN, SLACK_TOKEN, PASSWORD, f"aws_secret_access_key={AWS_SECRET}", "acme-a1b2c3d4", "user=a"),
    *(
        "{*",
        "*}",
        "KEY: ",
        "password=",
        'secret = "',
        "token: ",
        "Authorization: Basic ",
        "-----BEGIN PRIVATE",
        " KEY-----\n",
    ),
    *(
        "%",
        "%7B",
        "&#x41;",
        "&amp;",
        "\\u00",
        "\\ud83d",
        "\\n",
        "\\\\",
        "0x",
        "==",
        "eyJ",
        "é",
        "\U0001f480",
        "\ud800",
        "\0",
        "\r\n",
    ),
]
_TEXT = st.lists(
    st.one_of(st.sampled_from(_WORDS), st.text(max_size=20), st.integers(1, 400).map(lambda count: "aB3/" * count)),
    max_size=40,
).map("".join)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _wrapped(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    encoders = [
        lambda text: base64.b64encode(_bytes(text)).decode(),
        lambda text: _bytes(text).hex(),
        lambda text: quote(_bytes(text)),
        escape,
        lambda text: text.encode("unicode-escape").decode(),
    ]
    return st.tuples(_TEXT, st.sampled_from(encoders), texts, _TEXT).map(
        lambda each: each[0] + each[1](each[2]) + each[3]
    )


def _packed(bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    packers = [gzip.compress, lambda body: zipped({"a": body, "b": body[:9]}), lambda body: tarred({"a/.env": body})]
    return st.tuples(st.sampled_from(packers), bodies).map(lambda each: each[0](each[1]))


def _damaged(bodies: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    return st.tuples(bodies, st.integers(0, 2**32), st.binary(max_size=4)).map(
        lambda each: each[0][: (at := each[1] % (len(each[0]) + 1))] + each[2] + each[0][at + len(each[2]) :]
    )


_BODY = st.recursive(_TEXT, _wrapped, max_leaves=3).flatmap(
    lambda text: st.sampled_from([_bytes(text), text.encode("utf-16", "replace"), text.encode("gb18030", "replace")])
)
BODIES = st.one_of(st.binary(max_size=300), _BODY, _packed(_BODY), _damaged(_packed(st.one_of(_BODY, _packed(_BODY)))))


@pytest.fixture(scope="module")
def extractor(rules_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Extractor:
    pack = tmp_path_factory.mktemp("packs") / "mine.toml"
    pack.write_text(PACK)
    return Extractor(Detectors(rules=(pack,), cache=rules_cache))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(BODIES, st.sampled_from([None, "text/html; charset=gbk", "charset=utf-16", "x; charset="]))
def test_a_document_ends_in_its_secrets_or_in_the_declared_refusal(
    extractor: Extractor, body: bytes, content_type: str | None
) -> None:
    began = time.thread_time()
    try:
        found = extractor.extract(body, content_type)
    except MissionFailed as failure:
        assert failure.reason in REFUSALS  # noqa: PT017 (secrets are as good an end)
    else:
        assert all(secret.value and secret.line >= 1 and secret.column >= 1 for secret in found)
    assert time.thread_time() - began < BUDGET_SECONDS
