"""JSON as no provider should write it, for property tests: documents bent out of shape, as bytes.

    @given(body=bodies([{"choices": [...]}, ...]))

Documents are taken from the templates given, with some of their values replaced, removed or joined
by others; what JSON libraries refuse to write (NaN, halves of surrogate pairs, integers of thirty
digits, three hundred levels of brackets) is written all the same.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

_WORDS = """
id object created model choices usage error index delta finish_reason message content role
tool_calls function name arguments custom input reasoning_content reasoning refusal audio data
transcript expires_at logprobs reasoning_details annotations extra_content images citations
search_results x_groq service_tier system_fingerprint type code param status detail metadata raw
prompt_tokens completion_tokens total_tokens prompt_tokens_details cached_tokens
completion_tokens_details reasoning_tokens text thinking msg loc innererror function_call
status_code content_block input_tokens output_tokens stop_reason signature citation partial_json
container request_id details candidates parts functionCall args partialArgs jsonPath stringValue
willContinue inlineData mimeType thought thoughtSignature finishReason groundingMetadata
usageMetadata promptTokenCount totalTokenCount logprobsResult modelVersion responseId
"""

KEYS = st.sampled_from(_WORDS.split())

_DEEP = "@deep"

NUMBERS = st.sampled_from(
    [
        *(None, True, False, 0, -1, 1, 2, 127, 128, 429, 2**63, 2**64 - 1, 10**30, -(10**30)),
        *(1.5, -0.0, 1e308, float("nan"), float("inf"), float("-inf")),
    ]
)
TEXTS = st.sampled_from(
    [
        *("", "a", "stop", "length", "error", "tool_calls", "429", "x" * 300, "x" * 3000),
        *("\ud800", "a\udc00\ud800b", "\u00e9\u2028\x00", "=A-_==b", "AAAA"),
        *('{"error":{"message":{"msg":[1]}}}', "{", "<html>"),
    ]
)
DEPTHS = st.sampled_from([f"{_DEEP}{levels}@" for levels in ("[240", "[300", "{300", "[1000")])
ATOMS = NUMBERS | TEXTS | DEPTHS

VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=6,
)

_EDITS = st.lists(
    st.tuples(
        st.integers(0, 1 << 16),
        st.sampled_from(["replace", "replace", "remove", "add"]),
        KEYS,
        VALUES,
    ),
    min_size=1,
    max_size=4,
)


def documents(templates: Sequence[Any]) -> st.SearchStrategy[Any]:
    """Values for `encode`: the templates, bent."""
    template = st.sampled_from(templates)
    bent = st.builds(_bent, template, _EDITS)
    return st.one_of(template, bent, bent, bent, VALUES)


def bodies(templates: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """The same as bytes."""
    return st.builds(encode, documents(templates), st.booleans())


def streams(templates: Sequence[Any], done: bytes = b"") -> st.SearchStrategy[bytes]:
    """Event streams of such documents, some of them cut, perhaps with `done` at the end."""

    def one(body: bytes, head: bytes, cut: int | None) -> bytes:
        return head + body[:cut] + b"\n\n"

    event = st.builds(
        one,
        bodies(templates),
        st.sampled_from([b"data: ", b"data: ", b"data:", b"event: error\ndata: "]),
        st.none() | st.none() | st.none() | st.integers(0, 200),
    )

    def joined(events: list[bytes], end: bytes) -> bytes:
        return b"".join(events) + end

    return st.builds(joined, st.lists(event, min_size=1, max_size=6), st.sampled_from([b"", done]))


def encode(document: Any, is_ascii: bool) -> bytes:
    """JSON, or what comes nearest to it."""
    text = json.dumps(document, ensure_ascii=is_ascii)
    head, *pieces = text.split(f'"{_DEEP}')
    for piece in pieces:
        levels, _, rest = piece.partition("@")
        opening, depth = levels[0], int(levels[1:])
        opening, closing = ("[", "]") if opening == "[" else ('{"a":', "}")
        head += opening * depth + "1" + closing * depth + rest.removeprefix('"')
    return head.encode("utf-8", "surrogatepass")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container inside with a key or an index of it."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


def _bent(template: Any, edits: list[tuple[int, str, str, Any]]) -> Any:
    document = copy.deepcopy(template)
    for number, kind, key, value in edits:
        places = list(_places(document))
        if not places:
            break
        container, at = places[number % len(places)]
        if kind == "remove":
            del container[at]
        elif kind == "add" and isinstance(container, dict):
            container[key] = value
        else:
            container[at] = value
    return document
