"""How good an answer is, as a number: no model is asked for these."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from relay.config.model import ConfigError
from relay.config.panels import BestOfConfig, compile_pattern
from relay.content import GenerateRequest, ResponseFormat
from relay.policy.base import Whole
from relay.policy.panel_json import NotComparable, parsed
from relay.policy.schema_check import is_broken, is_schema

MAX_LOGPROBS_BYTES: Final = 4 * 1024 * 1024

Score = Callable[[GenerateRequest, Whole], Awaitable[float | None]]
"""None where the answer does not tell."""


def score_of(config: BestOfConfig) -> Score | None:
    """The one that a panel is configured with; None where a judge gives it.

    Raises:
        ConfigError: `schema` is none, or too large to be used.
    """
    if config.logprobs is not None:
        return _by_logprobs
    if config.length is not None:
        return _by_length(-1.0 if config.length == "shortest" else 1.0)
    if config.pattern is not None:
        return _by_pattern(compile_pattern(config.pattern))
    if config.schema_ is not None:
        schema_json = b"" if config.schema_ == "request" else orjson.dumps(config.schema_)
        if schema_json and not is_schema(schema_json):
            raise ConfigError("decide.best_of.schema: it is no JSON Schema, or over 64 KiB")
        return _by_schema(schema_json)
    return None


def highest(config: BestOfConfig) -> float | None:
    """A score that none can beat; None where there is no such."""
    return 1.0 if config.pattern is not None or config.schema_ is not None else None


async def _by_logprobs(_: GenerateRequest, whole: Whole) -> float | None:
    return mean_logprob(whole)


def mean_logprob(whole: Whole) -> float | None:
    """Of the tokens that the provider gave one for (OpenAI's shape: `content`, `logprob`)."""
    if sum(map(len, whole.logprobs_json)) > MAX_LOGPROBS_BYTES:
        return None
    total, count = 0.0, 0
    for value_json in whole.logprobs_json:
        try:
            value = orjson.loads(value_json)
        except orjson.JSONDecodeError:
            continue
        content = value.get("content") if isinstance(value, dict) else None
        for token in content if isinstance(content, list) else ():
            logprob = token.get("logprob") if isinstance(token, dict) else None
            if isinstance(logprob, int | float) and -1000 < logprob <= 0:
                total += logprob
                count += 1
    return total / count if count else None


def _by_length(sign: float) -> Score:
    async def score(_: GenerateRequest, whole: Whole) -> float:
        return math.copysign(len(whole.text.strip()), sign)

    return score


def _by_pattern(pattern: Any) -> Score:
    async def score(_: GenerateRequest, whole: Whole) -> float:
        text = whole.text.encode("utf-8", "replace").decode()
        return 1.0 if pattern.search(text) is not None else 0.0

    return score


def _by_schema(schema_json: bytes) -> Score:
    async def score(request: GenerateRequest, whole: Whole) -> float:
        wanted = schema_json or _schema_json(request.response_format)
        if not wanted:
            return 1.0 if _is_json(whole.text) else 0.0
        return 0.0 if await is_broken(whole.text, wanted) else 1.0

    return score


def _schema_json(wanted: ResponseFormat | None) -> bytes:
    return wanted.schema_json if wanted is not None else b""


def _is_json(text: str) -> bool:
    try:
        parsed(text)
    except NotComparable:
        return False
    return True
