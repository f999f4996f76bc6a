"""What a provider's own account of an answer says beyond the usual counts, for prices that ask.

Most prices know four kinds of tokens. Some have others for sound and pictures, or for what is
cached for an hour; then the provider's usage object is looked into, once an attempt:

- OpenAI: `prompt_tokens_details.audio_tokens`, `.image_tokens`, `completion_tokens_details` alike
  (`input_...` and `output_...` in the Responses API), `.cached_tokens_details` where it is there;
- Anthropic: `cache_creation.ephemeral_1h_input_tokens`;
- Gemini: `promptTokensDetails`, `cacheTokensDetails`, `candidatesTokensDetails`,
  `toolUsePromptTokensDetails`: `{modality, tokenCount}`, where Vertex may number modalities.

Counts that are no whole numbers of at least 0 are left out, as if they had not been told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from relay.content import Usage
from relay.governance.sheet_price import SheetPrice, Tokens

_MOST_TOKENS: Final = 1 << 40
_MODALITIES: Final[Mapping[object, str]] = {
    "IMAGE": "image",
    "VIDEO": "video",
    "AUDIO": "audio",
    2: "image",
    3: "video",
    4: "audio",
}


def cost_micro(price: SheetPrice, usage: Usage) -> int:
    """Micro-dollars of an answer, the half goes up."""
    cached, written = usage.cached_tokens or 0, usage.cache_write_tokens or 0
    reasoning = usage.reasoning_tokens or 0
    prompt, output = usage.prompt_tokens, usage.completion_tokens
    if not price.special or not usage.raw_json:
        return price.cost_micro(prompt, cached, written, output, reasoning)
    return price.cost_of(tokens_of(usage))


def tokens_of(usage: Usage) -> Tokens:
    """Every kind that the usage tells of."""
    told = Tokens(
        prompt=usage.prompt_tokens,
        cached=usage.cached_tokens or 0,
        cache_write=usage.cache_write_tokens or 0,
        output=usage.completion_tokens,
        reasoning=usage.reasoning_tokens or 0,
    )
    try:
        raw = orjson.loads(usage.raw_json)
    except orjson.JSONDecodeError:
        return told
    if type(raw) is not dict:
        return told
    found = _of_openai(raw) | _of_anthropic(raw) | _of_gemini(raw)
    return told._replace(**found) if found else told


def _of_openai(raw: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = _object(raw, name)
        _take(found, "audio_input", details.get("audio_tokens"))
        _take(found, "image_input", details.get("image_tokens"))
        cached = _object(details, "cached_tokens_details")
        _take(found, "cached_audio", cached.get("audio_tokens"))
        _take(found, "cached_image", cached.get("image_tokens"))
    for name in ("completion_tokens_details", "output_tokens_details"):
        details = _object(raw, name)
        _take(found, "audio_output", details.get("audio_tokens"))
        _take(found, "image_output", details.get("image_tokens"))
    return found


def _of_anthropic(raw: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    written = _object(raw, "cache_creation")
    _take(found, "long_cache_write", written.get("ephemeral_1h_input_tokens"))
    return found


def _of_gemini(raw: Mapping[str, Any]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, ending in (
        ("promptTokensDetails", "_input"),
        ("toolUsePromptTokensDetails", "_input"),
        ("candidatesTokensDetails", "_output"),
        ("cacheTokensDetails", ""),
    ):
        rows = raw.get(name)
        for row in rows if isinstance(rows, list) else ():
            if not isinstance(row, dict):
                continue
            word = row.get("modality")
            kind = _MODALITIES.get(word) if isinstance(word, str | int) else None
            if kind is None or (not ending and kind == "video"):
                continue
            _take(found, kind + ending if ending else f"cached_{kind}", row.get("tokenCount"))
    return found


def _object(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _take(found: dict[str, int], kind: str, count: object) -> None:
    if type(count) is int and 0 < count <= _MOST_TOKENS:
        found[kind] = found.get(kind, 0) + count
