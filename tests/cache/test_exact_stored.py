"""The written form of an answer: read back as it was, or not at all."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from relay.cache.stored import VERSION, Batch, Kept, Stored
from relay.content import (
    Embeddings,
    FinishReason,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolCallDone,
    Usage,
)
from tests.cache.world import INFO, STOP
from tests.fakes.events import batches
from tests.fakes.properties import examples

STORED = Stored("acme", "large", 1.5, 7, [Batch(0, [INFO, TextDelta("Hi"), STOP])])

FORM = {
    "ResponseInfo": "response_id model created_s service_tier system_fingerprint",
    "TextDelta": "text choice",
    "ReasoningDelta": "text choice",
    "ToolCallStart": "index call_id name choice kind",
    "ToolArgumentsDelta": "index fragment choice",
    "ToolCallDone": "index call_id name arguments choice kind is_partial extra_json",
    "OpaqueDelta": "key value_json choice",
    "Embeddings": "data_json",
    "ChoiceFinished": "reason raw_reason choice is_withdrawn",
    "Usage": "prompt_tokens completion_tokens total_tokens cached_tokens cache_write_tokens"
    " reasoning_tokens is_estimated raw_json service_tier",
}
"""Of version 1."""


def test_the_form_changes_with_its_version() -> None:
    """Another form needs another `VERSION`: what is kept in Redis outlives an upgrade."""
    assert VERSION == 1
    assert {kind.__name__: " ".join(kind.__struct_fields__) for kind in Kept.__args__} == FORM
    assert [reason.value for reason in FinishReason] == [1, 2, 3, 4, 5]


@examples(60, full=1000)
@given(batches(with_opaque=True), st.integers(0, 2**40), st.none() | st.integers(0, 2**40))
def test_what_was_written_is_read(
    found: list[list[StreamEvent]], gap_us: int, cost_micro: int | None
) -> None:
    kept = [Batch(gap_us, [e for e in one if isinstance(e, Kept)]) for one in found]
    kept = [batch for batch in kept if batch.events]
    stored = Stored("p", "m", 1.5, cost_micro, kept)
    assert Stored.decode(stored.encode()) == stored


def test_events_of_all_kinds_are_read_as_what_they_were() -> None:
    events: list[Kept] = [
        Embeddings(b"[1]"),
        ToolCallDone(0, "c", "f", "{}", extra_json=b'{"a":1}'),
        Usage(1, 2, 3, raw_json=b"{}"),
    ]
    read = Stored.decode(Stored("p", "m", 0.0, None, [Batch(0, events)]).encode())
    assert read is not None
    assert [type(event) for event in read.batches[0].events] == [type(event) for event in events]
    assert read.batches[0].events == events


def test_what_is_not_whole_is_nothing() -> None:
    written = STORED.encode()
    assert Stored.decode(written) == STORED
    assert all(Stored.decode(written[:end]) is None for end in range(len(written)))
    assert Stored.decode(written + b"\0") is None
    assert Stored.decode(bytes([VERSION + 1]) + written[1:]) is None
    assert Stored.decode(written.replace(b"Hi", b"\xff\xfe")) is None
    assert Stored.decode(written.replace(b"TextDelta", b"TextDeltb")) is None
    assert Stored.decode(Stored("p", "m", 0.0, None, []).encode()) is None
    assert Stored.decode(Stored("p", "m", 0.0, None, [Batch(0, [])]).encode()) is None


def test_events_that_are_not_kept_are_not_read() -> None:
    tail = msgspec.msgpack.encode(("p", "m", 0.0, None, [(0, [RefusalDelta("no")])]))
    assert Stored.decode(bytes([VERSION]) + tail) is None


@examples(150, full=2500)
@given(st.data())
def test_no_bytes_are_more_than_nothing(data: st.DataObject) -> None:
    """Neither made up, nor with some of them changed."""
    written = bytearray(STORED.encode())
    for _ in range(data.draw(st.integers(1, 3))):
        written[data.draw(st.integers(0, len(written) - 1))] = data.draw(st.integers(0, 255))
    for some in (bytes(written), data.draw(st.binary(max_size=40))):
        found = Stored.decode(some)
        assert found is None or isinstance(found, Stored)


def test_an_age_is_never_negative() -> None:
    assert STORED.age_s(11.5) == 10.0
    assert STORED.age_s(0.0) == 0.0
