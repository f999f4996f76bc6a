"""Token counts: normalised, zero kept, nonsense clamped and marked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.codecs.openai_usage import normalise
from relay.codecs.token_counts import MAX_TOKENS


def counts(raw: dict[str, Any]) -> tuple[int | None, ...]:
    usage = normalise(raw)
    assert usage is not None
    assert orjson.loads(usage.raw_json) == raw
    return (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.total_tokens,
        usage.cached_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


def raw(prompt: Any, completion: Any, total: Any, **more: Any) -> dict[str, Any]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
        **more,
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (raw(9, 2, 11), (9, 2, 11, None, None, None)),
        (raw(0, 0, 0), (0, 0, 0, None, None, None)),
        ({"prompt_tokens": 9, "completion_tokens": 2}, (9, 2, 11, None, None, None)),
        ({"prompt_tokens": 9, "total_tokens": 11}, (9, 2, 11, None, None, None)),
        ({"completion_tokens": 2, "total_tokens": 11}, (9, 2, 11, None, None, None)),
        (raw(9.0, 2.0, 11.0), (9, 2, 11, None, None, None)),
        (
            raw(
                9,
                5,
                14,
                prompt_tokens_details={"cached_tokens": 4, "cache_write_tokens": 2},
                completion_tokens_details={"reasoning_tokens": 3},
            ),
            (9, 5, 14, 4, 2, 3),
        ),
        (raw(9, 2, 11, prompt_tokens_details=None), (9, 2, 11, None, None, None)),
        (raw(9, 2, 11, prompt_cache_hit_tokens=8), (9, 2, 11, 8, None, None)),
        # xAI: reasoning beside the completion.
        (
            raw(291, 26, 513, completion_tokens_details={"reasoning_tokens": 196}),
            (291, 222, 513, None, None, 196),
        ),
    ],
)
def test_normalised(given: dict[str, Any], expected: tuple[int | None, ...]) -> None:
    assert counts(given) == expected
    usage = normalise(given)
    assert usage is not None
    assert not usage.is_estimated


@pytest.mark.parametrize("given", [{"total_tokens": 11}, {"completion_tokens": 11}])
def test_a_part_that_nothing_tells_makes_it_an_estimate(given: dict[str, Any]) -> None:
    usage = normalise(given)
    assert usage is not None
    assert usage.is_estimated
    assert usage.total_tokens == 11


@pytest.mark.parametrize("given", [{}, {"prompt_tokens": None}, {"cost": 1}, raw("1", True, [])])
def test_nothing_said(given: dict[str, Any]) -> None:
    assert normalise(given) is None


@pytest.mark.parametrize("given", [raw(-1, 2, 1), raw(1, 10**12, 10**12), raw(1, 10**30, 1)])
def test_nonsense_is_clamped_and_marked(given: dict[str, Any]) -> None:
    usage = normalise(given)
    assert usage is not None
    assert usage.is_estimated
    for count in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens):
        assert 0 <= count <= MAX_TOKENS
