"""How good an answer is, as a number."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from relay.config.panels import BestOfConfig
from relay.content import GenerateRequest, ResponseFormat
from relay.policy.base import Whole
from relay.policy.scores import highest, mean_logprob, score_of
from tests.policy.test_judge_prompt import ASKED, says


def score(config: dict[str, Any], text: str, request: GenerateRequest = ASKED) -> Any:
    scored = score_of(BestOfConfig.model_validate(config))
    assert scored is not None
    return asyncio.run(_awaited(scored(request, says(text))))


async def _awaited(work: Any) -> Any:
    return await work


def with_logprobs(*values: bytes) -> Whole:
    whole = says("x")
    return Whole(
        whole.texts, whole.tool_calls, whole.refusals, whole.finish, None, values, None, 0.0
    )


def test_log_probabilities() -> None:
    one = orjson.dumps({"content": [{"token": "a", "logprob": -1}, {"token": "b", "logprob": -2}]})
    other = orjson.dumps({"content": [{"token": "c", "logprob": -3.0}], "refusal": None})
    assert mean_logprob(with_logprobs(one, other)) == -2
    assert mean_logprob(with_logprobs()) is None


@pytest.mark.parametrize(
    "value",
    [b"", b"{", b"[]", b"null", b'{"content": null}', b'{"content": [1]}'],
)
def test_odd_log_probabilities_are_none(value: bytes) -> None:
    assert mean_logprob(with_logprobs(value)) is None


def test_impossible_log_probabilities_are_left_out() -> None:
    value = b'{"content": [{"logprob": 5}, {"logprob": -9999}, {"logprob": -1}, {"logprob": "x"}]}'
    assert mean_logprob(with_logprobs(value)) == -1


def test_patterns_are_searched_in_linear_time() -> None:
    assert score({"pattern": "(?i)par+is"}, "in PARIS") == 1
    assert score({"pattern": "^paris"}, "in paris") == 0
    assert score({"pattern": "x"}, "\ud800x") == 1
    assert score({"pattern": "(a+)+$"}, "a" * 100_000 + "b") == 0


def test_schemas() -> None:
    schema = {"type": "object", "required": ["a"]}
    assert score({"schema": schema}, '{"a": 1}') == 1
    assert score({"schema": schema}, '{"b": 1}') == 0
    assert score({"schema": schema}, "no") == 0
    wanted = ResponseFormat("json_schema", schema_json=orjson.dumps(schema))
    request = GenerateRequest(model="m", messages=(), response_format=wanted)
    assert score({"schema": "request"}, '{"b": 1}', request) == 0
    assert score({"schema": "request"}, '{"b": 1}') == 1
    assert score({"schema": "request"}, "no") == 0


def test_only_these_cannot_be_beaten() -> None:
    assert highest(BestOfConfig(pattern="x")) == 1
    assert highest(BestOfConfig.model_validate({"schema": "request"})) == 1
    assert highest(BestOfConfig(length="longest")) is None
