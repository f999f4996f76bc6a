"""Cutting an array of JSON into its objects: every cut, strings with brackets, and its cap."""

from __future__ import annotations

import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.json_stream import JsonObjectSplitter
from tests.fakes.collect import pieces_of
from tests.fakes.properties import examples

CAP = 1000


def split(body: bytes, size: int | None = None) -> tuple[list[bytes], JsonObjectSplitter]:
    splitter = JsonObjectSplitter(CAP)
    pieces = pieces_of(body, size) if size else [body]
    return [value for piece in pieces for value in splitter.feed(piece)], splitter


def states(splitter: JsonObjectSplitter) -> list[str]:
    names = ("is_closed", "is_open", "is_broken", "is_too_large")
    return [name for name in names if getattr(splitter, name)]


VALUES = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.text(max_size=8) | st.integers(0, 9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    ),
    max_size=3,
)


@given(values=st.lists(VALUES, max_size=4), size=st.integers(1, 30), in_array=st.booleans())
@examples(200)
def test_objects_come_out_as_they_went_in(
    values: list[dict[str, object]], size: int, in_array: bool
) -> None:
    texts = [orjson.dumps(value) for value in values]
    body = b" [ " + b"\r\n,\n".join(texts) + b"\n]" if in_array else b"\n".join(texts)
    found, splitter = split(body, size)
    assert found == texts
    assert states(splitter) == (["is_closed"] if in_array else [])


@pytest.mark.parametrize(
    ("body", "values", "state"),
    [
        (b'[{"a":"]}\\"{["}]{}', [b'{"a":"]}\\"{["}'], "is_closed"),
        (b"[{}", [b"{}"], "is_open"),
        (b'{"a', [], "is_open"),
        (b'{"a\\', [], "is_open"),
        (b'{"a":"\\\n"}', [b'{"a":"\\\n"}'], ""),
        (b"{}x{}", [b"{}"], "is_broken"),
        (b"[[{}]]", [], "is_open is_broken"),
        (b"{}]", [b"{}"], "is_broken"),
        (b"{}[", [b"{}"], "is_open"),
        (b"{]", [b"{]"], ""),
    ],
)
@pytest.mark.parametrize("size", [None, 1, 2])
def test_states(body: bytes, values: list[bytes], state: str, size: int | None) -> None:
    found, splitter = split(body, size)
    assert found == values
    assert states(splitter) == state.split()


@pytest.mark.parametrize("size", [None, 1, 7])
def test_the_cap_is_for_one_object(size: int | None) -> None:
    largest = b'{"a":"' + b"x" * (CAP - 8) + b'"}'
    found, splitter = split(b"[" + largest + b"," + largest, size)
    assert found == [largest, largest]
    found, splitter = split(largest + largest.replace(b"x", b"xx", 1) + b"{}", size)
    assert found == [largest]
    assert splitter.is_too_large


@pytest.mark.parametrize("body", [b'{"' + b'\\"' * 200_000, b'{"a":' + b'"",' * 200_000])
def test_work_is_linear(body: bytes) -> None:
    splitter = JsonObjectSplitter(1 << 30)
    began_s = time.process_time()
    for piece in pieces_of(body, 10_000):
        splitter.feed(piece)
    assert time.process_time() - began_s < 2  # a square of it would take minutes
