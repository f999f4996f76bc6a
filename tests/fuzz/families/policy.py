"""What models say and policies read: numbers, JSON, marks, refusals, languages, confidence; and a
JSON Schema that a caller sends.

Held to: nothing but what is declared is raised; what is equal is equal in any order of fields; a
schema takes bounded steps.
"""

from __future__ import annotations

import contextlib
import math
from decimal import Decimal
from typing import Any

import orjson

from relay.policy.confidence import LEAST, Confidence
from relay.policy.judge_verdict import mark_of, preferred
from relay.policy.language import language_of, languages_of
from relay.policy.languages import LANGUAGES
from relay.policy.panel_json import NotComparable, comparable, field_of, parsed, pointer_steps
from relay.policy.panel_numbers import last_number
from relay.policy.panel_text import normalised
from relay.policy.refusals import Refusals, folded
from relay.policy.schema_check import breaks_schema
from tests.fuzz.registry import Target


def check_said(given: bytes) -> bool:
    text = given.decode("utf-8", "replace")
    number = last_number(text)
    assert number is None or isinstance(number, Decimal)
    assert mark_of(text) in (None, *range(1, 11))
    choice = preferred(text, 3)
    assert not isinstance(choice, int) or 0 <= choice < 3
    found = languages_of(text)
    assert set(found) <= set(LANGUAGES)
    assert language_of(text) in ("", *found)
    assert normalised(text) == normalised(text + " "), "a blank at the end says something"
    assert folded(text) == folded(f" {text}")
    Refusals(("ich kann nicht",)).is_one(text)
    Refusals.may_become_one(text)
    return number is not None or bool(found)


def _turned(value: Any) -> Any:
    """The same with every object's fields the other way round."""
    if isinstance(value, dict):
        return {name: _turned(value[name]) for name in reversed(value)}
    return [_turned(one) for one in value] if isinstance(value, list) else value


def check_json(given: bytes) -> bool:
    text, _, path = given.decode("utf-8", "replace").rpartition("\n\n")
    try:
        value = parsed(text)
        for folds_text in (True, False):
            one = comparable(value, folds_text=folds_text)
            assert hash(one) == hash(comparable(_turned(value), folds_text=folds_text))
            assert one == comparable(_turned(value), folds_text=folds_text)
    except NotComparable:
        return False
    with contextlib.suppress(NotComparable):
        field_of(value, pointer_steps(path))
    return True


def check_confidence(given: bytes) -> bool:
    seen = Confidence(5)
    for piece in given.split(b"\n"):
        seen.take(piece)
    assert seen.tokens <= 5
    assert seen.least >= LEAST
    assert seen.mean is None or (math.isfinite(seen.mean) and LEAST <= seen.mean <= 0)
    return seen.tokens > 0


def check_schema(given: bytes) -> bool:
    """The text before the schema; without one it breaks where it is no JSON object."""
    text, _, schema = given.partition(b"\n\n")
    said = text.decode("utf-8", "replace")
    is_broken = breaks_schema(said, schema)
    try:
        value = orjson.loads(said)
    except orjson.JSONDecodeError:
        assert breaks_schema(said, b"")
        return False
    assert breaks_schema(said, b"") == (not isinstance(value, dict))
    assert not breaks_schema(said, b"{}")
    return not is_broken


SAID = (
    b"The answer is 1,234.5 of 7", b"7/10", b"B.", b"TIE", "½ und 3¾".encode(),
    b"Es tut mir leid, aber ich kann dir dabei nicht helfen.", b"I'm sorry, I cannot",
    "これは日本語です".encode(), "١٢٣٫٤".encode(), b"-1.5e-300",
)  # fmt: skip
JSONS = (
    b'```json\n{"a":[1,1.0,"\xc3\x9f"],"b":true}\n```\n\n/a/0',
    b'{"n":1e400,"m":-0.0}\n\n$.n',
    b'[[[1]]]\n\n/0/0/0',
)  # fmt: skip
LOGPROBS = (b'{"content":[{"token":"a","logprob":-0.5},{"logprob":-1e9}]}', b'[{"logprob":null}]')
SCHEMAS = (
    b'{"a":1}\n\n{"type":"object","required":["a"],"properties":{"a":{"type":"integer"}}}',
    b'{"a":[1]}\n\n{"$ref":"#/$defs/x","$defs":{"x":{"anyOf":[{"$ref":"#/$defs/x"},{}]}}}',
    b'"aaaa"\n\n{"type":"string","pattern":"(a+)+$"}',
    b'[]\n\n{"items":{"format":"date"},"uniqueItems":true,"maxItems":3}',
)

TARGETS = {
    "said": Target(check_said, lambda: SAID),
    "json": Target(check_json, lambda: JSONS),
    "confidence": Target(check_confidence, lambda: LOGPROBS),
    "schema": Target(check_schema, lambda: SCHEMAS),
}
