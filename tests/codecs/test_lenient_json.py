"""JSON that is none: what is mended, what refused, what can be written again, and at what cost."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs import lenient_json
from tests.fakes.properties import examples

CASES: dict[str, tuple[bytes, Any, bool]] = {
    "plain": (b'{"a": [1, "b"]}', {"a": [1, "b"]}, False),
    "a pair of escapes": (rb'["\ud83d\ude00", NaN]', ["\U0001f600", math.nan], False),
    "a byte outside UTF-8": (b'["a\xffb"]', ["a\ufffdb"], True),
    "half a pair, the first": (rb'["\ud800"]', ["\ufffd"], True),
    "half a pair, the second": (rb'["\uDFFFx"]', ["\ufffdx"], True),
    "two halves in the wrong order": (rb'["\udc00\ud800"]', ["\ufffd\ufffd"], True),
    "half a pair before a pair": (rb'["\ud800\ud83d\ude00"]', ["\ufffd\U0001f600"], True),
    "half a pair in a key": (rb'[{"\ud800": 1}]', [{"\ufffd": 1}], True),
    "backslash and no escape": (rb'["\\ud800", NaN]', ["\\ud800", math.nan], False),
    "backslash, then half a pair": (rb'["\\\ud800"]', ["\\\ufffd"], True),
    "no escape, then half a pair": (rb'["\\ud800\udc00"]', ["\\ud800\ufffd"], True),
    "the same in a key": (rb'{"\\ud800\udc00": {"a": [[]]}}', {"\\ud800\ufffd": {"a": [[]]}}, True),
    "both kinds": (b'["\xff", "\\ud800", {"a": NaN}]', ["\ufffd", "\ufffd", {"a": math.nan}], True),
    "infinity": (b"[-Infinity]", [-math.inf], False),
    "the largest integers": (
        b"[18446744073709551615, -9223372036854775808, NaN]",
        [(1 << 64) - 1, -(1 << 63), math.nan],
        False,
    ),
    "larger ones": (b"[18446744073709551616, -1%s, NaN]" % (b"0" * 24), [2.0**64, -1e24], False),
    "one of 5,000 digits": (b"[" + b"9" * 5000 + b"]", [math.inf], False),
}


@pytest.mark.parametrize(("text", "value", "is_mended"), CASES.values(), ids=CASES.keys())
def test_what_is_read(text: bytes, value: Any, is_mended: bool) -> None:
    read, was_mended = lenient_json.read(text)
    if isinstance(read, list):  # a NaN is not equal to itself
        read = read[: len(value)]
    assert repr(read) == repr(value)
    assert was_mended is is_mended
    assert orjson.loads(lenient_json.dumps(read)) is not None, "it can be written again"


@pytest.mark.parametrize(
    "text", [b"", b"{", b"nope", b"[1,]", b'{"a"}', b'["\\ud800', b"\xff", b"[" * 2000, b'"\n"']
)
def test_what_is_no_json_even_so(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        lenient_json.loads(text)


@pytest.mark.parametrize("depth", [1, 200, 237, 238, 239, 250, 254, 255, 900])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_what_is_written_has_room_around_it(depth: int, opening: str) -> None:
    closing = {"[": "]", '{"a":': "}"}[opening]
    value = lenient_json.loads((opening * depth + "1" + closing * depth).encode())
    text = lenient_json.dumps(value)
    assert bool(text) == (depth <= 238)
    if text:
        around: Any = orjson.loads(text)
        for _ in range(16):
            around = [around]
        assert orjson.loads(orjson.dumps(around)) == around


def test_what_holds_no_escape_is_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte of brackets beside one bad byte costs as much as without it."""

    def walk(value: Any) -> Any:
        raise AssertionError("walked")

    monkeypatch.setattr(lenient_json, "_mended", walk)
    monkeypatch.setattr(json, "loads", walk)
    brackets = b"[" + b",".join([b"[]"] * 300_000) + b"]"
    assert lenient_json.read(b'["\xff", %s]' % brackets)[1]
    assert lenient_json.read(b'["\\ud800", %s]' % brackets)[1]


@given(
    text=st.lists(
        st.sampled_from(
            [rb"\ud83d", rb"\ude00", rb"\\", rb"\n", b"a", b"\xff", rb"\uD800", "\u00e9".encode()]
        ),
        max_size=8,
    ),
    more=st.sampled_from([b"", b", NaN", b', {"k\\ud800": []}']),
)
@examples(500)
def test_strings_are_mended_as_the_standard_library_reads_them(
    text: list[bytes], more: bytes
) -> None:
    body = b'["' + b"".join(text) + b'"' + more + b"]"
    expected = json.loads(body.decode("utf-8", "replace"))[0]
    mended = expected.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert lenient_json.loads(body)[0] == mended
