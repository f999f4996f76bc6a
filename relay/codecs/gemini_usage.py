"""Gemini's `usageMetadata`, normalised to OpenAI's way of counting.

Every chunk of a stream repeats it with cumulative numbers. Prompts of server-side tools are
counted beside the prompt, and thoughts beside the answer; `cachedContentTokenCount` is inside
the prompt.

Since they come with every piece of text there are two readers: a typed one for counts that are
as they should be, and a patient one for all else.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
import orjson

from relay.codecs.token_counts import MAX_TOKENS, token_count, usage_of
from relay.content import Usage

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]


class _Modality(msgspec.Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    """Tokens of one kind."""

    modality: str = ""
    token_count: _Count = 0


class _Counts(msgspec.Struct, forbid_unknown_fields=True, rename="camel", gc=False):
    """A `usageMetadata` that can be passed on as it is: all of it is known, and read."""

    prompt_token_count: _Count | None = None
    total_token_count: _Count | None = None
    candidates_token_count: _Count | None = None
    thoughts_token_count: _Count | None = None
    cached_content_token_count: _Count | None = None
    tool_use_prompt_token_count: _Count = 0
    prompt_tokens_details: list[_Modality] = []
    candidates_tokens_details: list[_Modality] = []
    cache_tokens_details: list[_Modality] = []
    tool_use_prompt_tokens_details: list[_Modality] = []
    service_tier: str = ""
    traffic_type: str = ""


_decode: Final = msgspec.json.Decoder(_Counts).decode


def read_usual(raw_json: bytes) -> Usage | None:
    """Counts of a `usageMetadata` that holds what it should; None when it holds none yet.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is for `normalise`.
    """
    raw = _decode(raw_json)
    prompt, answer = raw.prompt_token_count, raw.candidates_token_count
    total, thoughts = raw.total_token_count, raw.thoughts_token_count
    if prompt is None or total is None:
        if prompt is None and answer is None and total is None and thoughts is None:
            return None
        raise msgspec.ValidationError("a part of the counts")
    return Usage(
        prompt + raw.tool_use_prompt_token_count,
        (answer or 0) + (thoughts or 0),
        total,
        raw.cached_content_token_count,
        None,
        thoughts,
        False,
        raw_json,
    )


def normalise(raw_json: bytes) -> Usage | None:
    """Counts from the JSON text of a `usageMetadata`, None when it holds none.

    Vertex sends `{"trafficType": ...}` alone until the last chunk.
    """
    try:
        raw = orjson.loads(raw_json)
    except orjson.JSONDecodeError:
        return None
    if type(raw) is not dict:
        return None
    prompt = token_count(raw.get("promptTokenCount"))
    answer = token_count(raw.get("candidatesTokenCount"))
    total = token_count(raw.get("totalTokenCount"))
    thoughts = token_count(raw.get("thoughtsTokenCount"))
    if prompt is None and answer is None and total is None and thoughts is None:
        return None
    prompt = (prompt or 0) + (token_count(raw.get("toolUsePromptTokenCount")) or 0)
    completion = (answer or 0) + (thoughts or 0)
    return usage_of(
        prompt,
        completion,
        total,
        cached=token_count(raw.get("cachedContentTokenCount")),
        cache_write=None,
        reasoning=thoughts,
        raw=raw,
    )
