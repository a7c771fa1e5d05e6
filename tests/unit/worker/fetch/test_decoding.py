"""Content codings: the decoded pieces, and the refused bodies."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from backports import zstd

from mission.errors import MissionFailed
from mission.model import Reason
from tests.servers.misbehaving import MIB, bomb, compress
from worker.fetch.decoding import MAX_MEMBERS, STEP, content_codings, decoded

CODINGS = ["gzip", "deflate", "raw-deflate", "br", "zstd"]
TEXT = b"a document {* KEY: value *} " * 5000
NOISE = random.Random(7).randbytes(300_000)


def undo(data: bytes, *codings: str, step: int = STEP, limit: int = 10 * MIB) -> bytes:
    pieces = (data[at : at + step] for at in range(0, len(data), step))
    declared = [coding.removeprefix("raw-") for coding in codings]
    return b"".join(decoded(pieces, declared, limit=limit, check=lambda _size: None))


def refusal(data: bytes, *codings: str, limit: int = 10 * MIB) -> Reason:
    with pytest.raises(MissionFailed) as caught:
        undo(data, *codings, limit=limit)
    return caught.value.reason


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("data", [b"", b"x", TEXT, NOISE, b"\0" * MIB], ids=["empty", "one", "text", "noise", "zeros"])
@pytest.mark.parametrize("step", [7, STEP])
def test_undoes_what_was_done(coding: str, data: bytes, step: int) -> None:
    assert undo(compress(data, coding), coding, step=step) == data


@pytest.mark.parametrize("coding", CODINGS)
def test_takes_its_input_byte_by_byte(coding: str) -> None:
    assert undo(compress(TEXT, coding), coding, step=1) == TEXT


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_takes_nothing_at_all_for_an_empty_document(coding: str) -> None:
    assert undo(b"", coding) == b""


def test_undoes_two_codings_in_reverse_order() -> None:
    assert undo(compress(compress(TEXT, "gzip"), "br"), "gzip", "br") == TEXT


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_joins_members(coding: str) -> None:
    assert undo(compress(TEXT, coding) + compress(b"", coding) + compress(b"more", coding), coding) == TEXT + b"more"


@pytest.mark.parametrize("coding", CODINGS)
def test_gives_as_much_as_the_limit_and_refuses_more(coding: str) -> None:
    assert len(undo(bomb(coding, 1), coding, limit=MIB)) == MIB
    assert refusal(bomb(coding, 1), coding, limit=MIB - 1) is Reason.BODY_TOO_LARGE


@pytest.mark.parametrize("coding", CODINGS)
def test_reads_no_more_of_a_bomb_than_it_takes_to_pass_the_limit(coding: str) -> None:
    given: list[int] = []

    def drip() -> Iterator[bytes]:
        data = bomb(coding, 64) + b"never read"
        for at in range(0, len(data), 100):
            given.append(at)
            yield data[at : at + 100]

    pieces: list[int] = []
    layers = decoded(drip(), [coding.removeprefix("raw-")], limit=MIB, check=lambda _size: None)
    with pytest.raises(MissionFailed):
        pieces.extend(len(piece) for piece in layers)
    assert sum(pieces) <= MIB
    assert max(pieces) <= STEP
    if coding not in ("br", "zstd"):  # their bombs are a few bytes, which all fit into the first piece or two
        assert len(given) < 5 * MIB / 64 / 100


def test_limits_the_layers_in_between_too() -> None:
    # RFC 1952: a member may have a file name of any length, which yields no output.
    member = compress(b"", "gzip")
    named = member[:3] + b"\x08" + member[4:10] + b"a" * 5 * MIB + b"\0" + member[10:]
    assert undo(compress(named, "gzip"), "gzip", "gzip") == b""
    assert refusal(compress(named, "gzip"), "gzip", "gzip", limit=MIB) is Reason.BODY_TOO_LARGE


def test_refuses_a_bomb_of_empty_members() -> None:
    assert refusal(compress(b"", "gzip") * (MAX_MEMBERS + 1), "gzip") is Reason.MALFORMED_RESPONSE


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("cut", [1, 5, 100])
def test_refuses_a_stream_without_its_end(coding: str, cut: int) -> None:
    assert refusal(compress(NOISE, coding)[:-cut], coding) is Reason.MALFORMED_RESPONSE


@pytest.mark.parametrize("coding", CODINGS)
def test_refuses_what_follows_the_end(coding: str) -> None:
    assert refusal(compress(TEXT, coding) + b"and more", coding) is Reason.MALFORMED_RESPONSE


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_refuses_what_the_coding_is_not(coding: str) -> None:
    assert refusal(b"\xff" * 100, coding) is Reason.MALFORMED_RESPONSE


def test_refuses_a_zstd_window_that_http_does_not_need() -> None:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 27,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    data = compressor.compress(NOISE) + compressor.flush()
    assert refusal(data, "zstd") is Reason.MALFORMED_RESPONSE


def test_checks_at_every_step() -> None:
    checks: list[int] = []
    data = [bomb("gzip", 4)]
    list(decoded(data, ["gzip"], limit=10 * MIB, check=checks.append))
    assert len(checks) >= 4 * MIB / STEP
    assert max(checks) == 4 * MIB


@pytest.mark.parametrize(
    ("values", "codings"),
    [
        ([], []),
        (["identity"], []),
        (["gzip"], ["gzip"]),
        (["GZIP"], ["gzip"]),
        (["gzip, br"], ["gzip", "br"]),
        (["gzip", "br"], ["gzip", "br"]),
        (["gzip,, identity"], ["gzip"]),
    ],
)
def test_reads_the_field(values: list[str], codings: list[str]) -> None:
    assert content_codings(values) == codings


@pytest.mark.parametrize("value", ["compress", "gzip;q=1", "gzip, gzip, gzip", "aes128gcm", "*"])
def test_refuses_codings_it_does_not_know(value: str) -> None:
    with pytest.raises(MissionFailed) as caught:
        content_codings([value])
    assert caught.value.reason is Reason.MALFORMED_RESPONSE
