"""The files in a body: each format, and nested ones; bombs cost no more than the limits; damage is reported and never raised."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.model import Cut
from worker.extract import archives
from worker.extract.archives import Limits, Member, is_archive, looks_like_text, members

TEXT = b"KEY=value\n"
MIB = 1024 * 1024
STREAMS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
}
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return data.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            archive.addfile(info, io.BytesIO(body))
    return data.getvalue()


def opened(body: bytes, limits: Limits | None = None, seconds: float = 60) -> tuple[list[tuple[str, bytes]], set[Cut]]:
    cuts: set[Cut] = set()
    found = members(body, monotonic() + seconds, cuts, limits or Limits())
    return [(member.path, member.body) for member in found], cuts


@pytest.mark.parametrize("method", METHODS)
def test_a_zip_s_members_are_given_by_their_names(method: int) -> None:
    files = {"app/.env": TEXT, "größe.txt": b"x" * 100_000 + TEXT}
    assert opened(zipped(files, method)) == (list(files.items()), set())


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["app/.env", "d/" * 70 + ".env", "größe"])
def test_a_tar_s_members_are_given_by_their_names(form: int, name: str) -> None:
    files = {name: TEXT, "next": b"y" * 5000}
    assert opened(tarred(files, form)) == (list(files.items()), set())


@pytest.mark.parametrize(("ending", "name"), [("gz", "gzip"), ("bz2", "bz2"), ("xz", "xz"), ("lzma", "lzma")])
def test_what_a_compressed_body_holds_is_called_by_the_format(ending: str, name: str) -> None:
    assert opened(STREAMS[ending](TEXT)) == ([(name, TEXT)], set())
    assert opened(STREAMS[ending](zipped({"a": TEXT}))) == ([(f"{name}!a", TEXT)], set())


@pytest.mark.parametrize("ending", [ending for ending in STREAMS if ending != "lzma"])
def test_compressed_streams_in_a_row_are_one(ending: str) -> None:
    assert opened(STREAMS[ending](TEXT) + STREAMS[ending](b"more")) == (
        [("gzip" if ending == "gz" else ending, TEXT + b"more")],
        set(),
    )


@pytest.mark.parametrize("pack", STREAMS.values(), ids=STREAMS)
def test_a_compressed_tar_is_one_archive(pack: Callable[[bytes], bytes]) -> None:
    files = {"app/.env": TEXT, "b": b"b" * 3000}
    assert opened(pack(tarred(files)), Limits(depth=1)) == (list(files.items()), set())


@pytest.mark.parametrize(
    ("name", "path"), [("a.log.gz", "z.zip!a.log"), ("a.GZ", "z.zip!a"), ("noending", "z.zip!noending")]
)
def test_a_compressed_member_loses_its_ending(name: str, path: str) -> None:
    assert opened(zipped({"z.zip": zipped({name: gzip.compress(TEXT)})})) == ([(path, TEXT)], set())


def test_archives_within_archives_are_read_to_depth_3() -> None:
    deep = zipped({"c.tar.xz": lzma.compress(tarred({"b.zip": zipped({"a.txt": TEXT, "a.gz": gzip.compress(TEXT)})}))})
    found, cuts = opened(deep)
    assert found == [("c.tar.xz!b.zip!a.txt", TEXT)]
    assert cuts == {Cut.DEPTH}
    assert opened(deep, Limits(depth=4)) == ([*found, ("c.tar.xz!b.zip!a", TEXT)], set())


def test_a_zip_behind_other_bytes_is_read_from_its_end() -> None:
    """A self-extracting program, or a document that begins like a zip and has another zip after that."""
    assert opened(b"PK\x03\x04 and more" + zipped({"a": TEXT})) == ([("a", TEXT)], set())


def test_a_zip_with_64_bit_fields_is_read() -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(TEXT)
    body = bytearray(data.getvalue())
    entry = body.rfind(b"PK\x01\x02")
    extra = struct.pack("<2H2Q", 1, 16, len(TEXT), len(TEXT))
    body[entry + 20 : entry + 28] = b"\xff" * 8  # both sizes: in the extra field
    body[entry + 30 : entry + 32] = struct.pack("<H", len(extra))
    end = body.rfind(b"PK\x05\x06")
    body[end:end] = extra
    size = end + len(extra) - entry
    record = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, size, entry)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end + len(extra), 1)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    body[end + len(extra) :] = record + locator + last
    assert zipfile.ZipFile(io.BytesIO(body)).read("a") == TEXT
    assert opened(bytes(body)) == ([("a", TEXT)], set())


@pytest.mark.parametrize("body", [b"", b"PK", b"\x1f\x8b", b"BZhello", b"]\0\0x", TEXT, b"{}", b"\0" * 1000])
def test_what_is_no_archive_has_no_members(body: bytes) -> None:
    assert not is_archive(body)
    assert opened(body) == ([], set())


def test_folders_and_links_of_a_tar_are_no_members() -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("no")
            info.type, info.linkname = kind, "d/" * 80  # a long link target has its own header
            archive.addfile(info)
        info = tarfile.TarInfo("./yes")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    assert opened(data.getvalue()) == ([("yes", TEXT)], set())


# Bombs


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: gzip.compress(bytes(64 * MIB), 9),
    "bz2": lambda: bz2.compress(bytes(64 * MIB)),
    "xz": lambda: lzma.compress(bytes(64 * MIB), preset=0),
    "zip": lambda: zipped({str(number): bytes(16 * MIB) for number in range(6)}),
    "zip of bz2": lambda: zipped({str(number): bytes(16 * MIB) for number in range(6)}, zipfile.ZIP_BZIP2),
    "zip of lzma": lambda: zipped({"a": bytes(16 * MIB)}, zipfile.ZIP_LZMA),
    "tar": lambda: gzip.compress(tarred({"a": bytes(64 * MIB)})),
    "gzip in gzip": lambda: gzip.compress(gzip.compress(gzip.compress(bytes(64 * MIB)))),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_costs_no_more_than_the_cap(bomb: Callable[[], bytes]) -> None:
    body = bomb()
    limits = Limits(total=40 * MIB, member=4 * MIB)
    found, cuts, peak = measured(body, limits)
    assert Cut.RATIO in cuts
    assert sum(found) <= limits.total
    assert peak < len(body) + 12 * MIB


def test_no_more_is_unpacked_than_may_be_in_all() -> None:
    body = zipped({str(number): os.urandom(MIB) for number in range(4)})
    found, cuts, _ = measured(body, Limits(total=2 * MIB + 1))
    assert (found, cuts) == ([MIB, MIB], {Cut.BYTES})


@pytest.mark.parametrize("ratio", [200, 10_000_000])
def test_a_bomb_of_small_ratio_is_stopped_by_its_bytes(ratio: int) -> None:
    body = zipped({str(number): bytes(8 * MIB) for number in range(8)})
    found, cuts, peak = measured(body, Limits(total=20 * MIB, member=2 * MIB, ratio=ratio))
    assert cuts <= {Cut.BYTES, Cut.RATIO}
    assert cuts
    assert sum(found) <= 20 * MIB
    assert peak < 12 * MIB


def measured(body: bytes, limits: Limits) -> tuple[list[int], set[Cut], int]:
    """The sizes of the members, the cuts, and the peak memory."""
    cuts: set[Cut] = set()
    tracemalloc.start()
    try:
        found = [len(member.body) for member in members(body, monotonic() + 60, cuts, limits)]
        return found, cuts, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_entries_that_share_their_bytes_are_not_all_read() -> None:
    body = zipped({"a": bytes(range(256)) * 64}, zipfile.ZIP_STORED)
    start, end = body.rfind(b"PK\x01\x02"), body.rfind(b"PK\x05\x06")
    many = 1000
    last = bytearray(body[end:])
    last[8:16] = struct.pack("<2HL", many, many, (end - start) * many)
    found, cuts = opened(body[:start] + body[start:end] * many + last)
    assert len(found) < 10
    assert cuts == {Cut.RATIO}


def test_members_without_end_are_counted() -> None:
    header = tarfile.TarInfo("empty").tobuf()
    found, cuts = opened(gzip.compress(header * 100_000), Limits(members=1000, ratio=10**9))
    assert len(found) == 0
    assert cuts == {Cut.MEMBERS}


def test_a_huge_central_directory_is_read_entry_by_entry() -> None:
    body = zipped({"a": b""})
    start, end = body.rfind(b"PK\x01\x02"), body.rfind(b"PK\x05\x06")
    many = 200_000
    last = bytearray(body[end:])
    last[12:16] = struct.pack("<L", (end - start) * many)
    body = body[:start] + body[start:end] * many + last
    _, cuts, peak = measured(body, Limits(members=5000))
    assert cuts <= {Cut.MEMBERS, Cut.RATIO}
    assert Cut.MEMBERS in cuts
    assert peak < MIB


def test_pax_headers_without_end_are_counted() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 512
    headers = (info.tobuf() + b"30 path=" + b"a" * 21 + b"\n" + bytes(482)) * 100_000
    found, cuts = opened(headers, Limits(members=1000))
    assert found == []
    assert cuts == {Cut.MEMBERS}


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XGLTYPE])
def test_a_header_of_any_length_is_read_over(kind: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 20 * MIB
    body = info.tobuf() + bytes(20 * MIB) + tarred({"a": TEXT})
    found, cuts, peak = measured(body, Limits())
    assert (found, cuts) == ([len(TEXT)], set())
    assert peak < MIB


@pytest.mark.parametrize("form", ["xz", "lzma", "zip"])
def test_a_dictionary_of_4_gib_is_not_taken(form: str) -> None:
    if form == "xz":
        body = lzma.compress(TEXT, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 64 * MIB, "preset": 0}])
    elif form == "lzma":
        alone = lzma.compress(TEXT, lzma.FORMAT_ALONE)
        body = b"]" + struct.pack("<L", 0xC0000000) + alone[5:]
    else:
        packed = bytearray(zipped({"a": TEXT}, zipfile.ZIP_LZMA))
        at = 30 + 1 + 4  # header, name, version and length of the properties
        packed[at + 1 : at + 5] = b"\xff" * 4
        body = bytes(packed)
    assert opened(body) == ([], {Cut.UNSUPPORTED})


def test_the_deadline_is_kept() -> None:
    assert opened(zipped({"a": TEXT}), seconds=-1) == ([], {Cut.TIME})


def test_of_a_long_member_as_much_is_given_as_may_be() -> None:
    long = bytes(range(256)) * 1000
    for body in (zipped({"a": long}), zipped({"a": long}, zipfile.ZIP_STORED), tarred({"a": long})):
        assert opened(body, Limits(member=1000)) == ([("a", long[:1000])], {Cut.BYTES})
    assert opened(gzip.compress(long), Limits(member=1000)) == ([("gzip", long[:1000])], {Cut.BYTES})
    assert opened(gzip.compress(long), Limits(member=len(long))) == ([("gzip", long)], set())


def test_names_have_a_bounded_length() -> None:
    found, _ = opened(zipped({"d" * 60_000 + "/.env": TEXT}))
    assert len(found[0][0]) == archives.MAX_NAME
    assert opened(tarred({"d" * 5000 + "/.env": TEXT}))[0][0][0] == "d" * 250 + "/.env"


# Damage


def test_an_encrypted_member_is_skipped_and_said() -> None:
    body = bytearray(zipped({"a": TEXT, "b": TEXT}))
    body[body.find(b"PK\x01\x02") + 8] |= 1
    assert opened(bytes(body)) == ([("b", TEXT)], {Cut.ENCRYPTED})


def test_a_method_that_nobody_knows_is_said() -> None:
    body = bytearray(zipped({"a": TEXT, "b": TEXT}))
    body[body.find(b"PK\x01\x02") + 10] = 93
    assert opened(bytes(body)) == ([("b", TEXT)], {Cut.UNSUPPORTED})


def test_a_member_whose_checksum_is_wrong_is_skipped() -> None:
    body = bytearray(zipped({"a": TEXT, "b": TEXT}, zipfile.ZIP_STORED))
    body[body.find(TEXT)] ^= 1
    assert opened(bytes(body)) == ([("b", TEXT)], {Cut.DAMAGED})


@pytest.mark.parametrize("pack", STREAMS.values(), ids=STREAMS)
def test_a_stream_that_is_cut_off_is_damaged(pack: Callable[[bytes], bytes]) -> None:
    assert opened(pack(TEXT * 100)[:-3]) == ([], {Cut.DAMAGED})


def test_of_a_tar_that_is_cut_off_the_members_before_are_given() -> None:
    body = tarred({"a": TEXT, "b": TEXT * 200})
    assert opened(body[:2600]) == ([("a", TEXT)], {Cut.DAMAGED})


SAMPLES = [
    *(zipped({"a/b": TEXT * 30, "c.gz": gzip.compress(TEXT)}, method) for method in METHODS),
    *(pack(TEXT * 30) for pack in STREAMS.values()),
    tarred({"a" * 150: TEXT * 30, "b": zipped({"c": TEXT})}),
    gzip.compress(tarred({"a": TEXT})),
]


@given(st.sampled_from(SAMPLES), st.lists(st.tuples(st.integers(0), st.binary(max_size=8)), max_size=6), st.data())
def test_no_damage_raises(body: bytes, changes: list[tuple[int, bytes]], data: st.DataObject) -> None:
    broken = bytearray(body)
    for place, new in changes:
        at = place % len(broken)
        broken[at : at + len(new)] = new
    end = data.draw(st.integers(0, len(broken)))
    limits = Limits(total=MIB, member=MIB // 4)
    found, cuts = opened(bytes(broken[:end]), limits)
    assert sum(len(body) for _, body in found) <= limits.total
    assert cuts <= set(Cut)


NAMES = st.text("abcß/.", min_size=1).filter(lambda name: not name.startswith(("/", "./")) and not name.endswith("/"))


@given(st.dictionaries(NAMES, st.binary(max_size=99).filter(lambda body: not is_archive(body)), min_size=1))
def test_what_was_packed_comes_out(files: dict[str, bytes]) -> None:
    given = [(name, body) for name, body in files.items() if body]
    for body in (zipped(files), tarred(files), bz2.compress(tarred(files))):
        assert opened(body)[0] == given


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", True),
        (TEXT, True),
        ("größe".encode("latin-1"), True),
        (b"\xff\xfea\0", True),
        (zlib.compress(bytes(range(256)) * 9), False),
        (b"\x89PNG\r\n\x1a\n\0\0", False),
        (bytes(range(1, 256)), False),
    ],
)
def test_text_is_told_from_what_is_none(body: bytes, *, text: bool) -> None:
    assert looks_like_text(body) is text


def test_a_member_is_a_path_and_a_body() -> None:
    assert list(members(zipped({"a": TEXT}), monotonic() + 9, set())) == [Member("a", TEXT)]
