"""Queue entries: which are let through, how they are rewritten, and which are refused."""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mission.store.messages import DECODE, SCHEMA_HEADER
from mission.store.scripts import WRITES
from tests.queue_entries import CANARY, arguments, encoded, entry, envelope, malformed, odd, refused
from worker.queue.entry import MAX_IDS_PER_MESSAGE, MAX_MESSAGE_BYTES, MalformedMessage, read, rebuild

MALFORMED = malformed()
ODD = odd()
REFUSED = refused()


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_entry_is_refused_and_nothing_of_it_repeated(kind: str) -> None:
    with pytest.raises(MalformedMessage) as refusal:
        rebuild(MALFORMED[kind])
    assert CANARY not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


@pytest.mark.parametrize("kind", REFUSED)
def test_what_somebody_waits_for_is_handed_on_without_the_arguments_that_are_refused(kind: str) -> None:
    original = json.loads(REFUSED[kind])["headers"]
    message = read(REFUSED[kind])
    assert (message.task, message.id) == (original["task"], original["id"])
    assert message.refused
    assert CANARY not in message.refused
    assert arguments(message.written()) == ([], {})
    assert CANARY.encode() not in message.written()
    assert read(message.written()) == replace(message, refused="bad arguments")


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_where_it_does_not_matter_is_left_behind(kind: str) -> None:
    original = json.loads(ODD[kind])
    rebuilt = rebuild(ODD[kind])
    ids = json.loads(base64.b64decode(original["body"]))[0]
    assert arguments(rebuilt) == (ids, {})
    assert CANARY.encode() not in rebuilt
    message = json.loads(rebuilt)
    assert message["headers"] == {"lang": "py", "task": DECODE, "id": original["headers"]["id"], SCHEMA_HEADER: WRITES}


def test_the_largest_message_of_ids_is_let_through() -> None:
    ids = [str(uuid.uuid4()) for _ in range(MAX_IDS_PER_MESSAGE)]
    assert arguments(rebuild(entry(args=[ids]))) == ([ids], {})


def test_an_entry_at_the_limit_is_read_and_one_beyond_it_is_not() -> None:
    padding = MAX_MESSAGE_BYTES - len(entry())
    assert rebuild(entry() + b" " * padding)
    with pytest.raises(MalformedMessage, match="too large"):
        rebuild(entry() + b" " * (padding + 1))


def test_a_body_that_is_not_encoded_is_read_as_it_is() -> None:
    message = envelope()
    message["properties"].pop("body_encoding")
    message["body"] = json.dumps([[["0f8fad5b-d9cb-469f-a165-70867728950e"]], {}, {}])
    assert arguments(rebuild(json.dumps(message).encode())) == ([["0f8fad5b-d9cb-469f-a165-70867728950e"]], {})


def test_a_body_without_the_embedded_options_is_read() -> None:
    message = envelope() | {"body": encoded([[["0f8fad5b-d9cb-469f-a165-70867728950e"]], {}])}
    assert arguments(rebuild(json.dumps(message).encode()))[0] == [["0f8fad5b-d9cb-469f-a165-70867728950e"]]


@pytest.mark.parametrize(
    ("args", "kwargs", "options"),
    [
        (["https://docs.example/a"], {}, {"url": "https://docs.example/a"}),
        ([], {"url": "https://docs.example/a"}, {"url": "https://docs.example/a"}),
        (["u"], {"submitter": "team-a", "expires": 60}, {"url": "u", "submitter": "team-a", "expires": 60}),
        (["u"], {"expires": None}, {"url": "u", "expires": None}),
        (["u"], {"expires": 0.5}, {"url": "u", "expires": 0.5}),
    ],
)
def test_a_submission_keeps_its_url_and_options(
    args: list[str], kwargs: dict[str, object], options: dict[str, object]
) -> None:
    assert arguments(rebuild(entry("decoder.submit", args, kwargs))) == ([], options)


def test_a_question_for_a_status_keeps_its_id() -> None:
    mission_id = str(uuid.uuid4())
    rebuilt = rebuild(entry("decoder.status", [mission_id]))
    assert arguments(rebuilt) == ([mission_id], {})


def test_a_rebuilt_message_is_rebuilt_to_the_same() -> None:
    first = json.loads(rebuild(entry()))
    second = json.loads(rebuild(json.dumps(first).encode()))
    first["properties"].pop("delivery_tag")
    second["properties"].pop("delivery_tag")
    assert second == first


def test_two_entries_with_one_delivery_tag_get_a_tag_each() -> None:
    same = entry()
    tags = {json.loads(rebuild(same))["properties"]["delivery_tag"] for _ in range(2)}
    assert len(tags) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
PLACES = st.sampled_from(
    ["body", "content-type", "headers", "properties", "headers/task", "headers/id", "properties/body_encoding", "args"]
)


@given(st.binary(max_size=300))
def test_any_bytes_are_let_through_or_refused(data: bytes) -> None:
    try:
        rebuild(data)
    except MalformedMessage:
        return
    pytest.fail("random bytes are no message")


@given(PLACES, json_values)
def test_any_value_in_any_place_is_let_through_or_refused(place: str, value: object) -> None:
    message = envelope()
    outer, _, inner = place.partition("/")
    if place == "args":
        message["body"] = encoded([value, {}, {}])
    elif inner:
        message[outer][inner] = value
    else:
        message[outer] = value
    try:
        rebuilt = rebuild(json.dumps(message).encode())
    except MalformedMessage:
        return
    assert json.loads(rebuilt)["headers"]["id"] == message["headers"]["id"]
