"""Counts of tokens as providers get them wrong."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from relay import generation
from relay.codecs import anthropic_usage, gemini_usage, openai_usage, token_counts
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.content import Usage
from relay.emulator.answer import Usage as Counted
from relay.generation import Generation
from tests.fakes.relay_under_test import DONE, chunk
from tests.matrix.bodies.wires import CHAT_WIRE, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import LIMIT_MICRO, USAGE, WHOLE_MICRO, Booked, word, world
from tests.surfaces.wires import WIRES, ProviderWire

TEXT = "One two three four five"
OUTPUT_TOKENS = 6
"""Of `TEXT`, by its bytes."""
COUNTERS = frozenset({"usage", "usageMetadata", "prompt_eval_count", "eval_count"})


def without_counts(part: bytes) -> bytes:
    """The event without what it says of tokens."""
    return re.sub(rb"\{.*\}", lambda found: orjson.dumps(_stripped(orjson.loads(found[0]))), part)


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(item) for key, item in value.items() if key not in COUNTERS}
    return [_stripped(item) for item in value] if isinstance(value, list) else value


async def answered(stage: Stage, wire: ProviderWire, parts: list[bytes]) -> Booked:
    """The answer is a normal one whatever its counts are, and booked once."""
    async with world(stage, on(wire)) as here:
        before = here.books.left_micro(here.budget_id)
        assert before == LIMIT_MICRO
        here.lab.routes[path(wire)] = sends(wire, parts)
        reply = await here.ask(here.face())
        assert reply.is_clean, reply
        assert reply.text == TEXT
        (booked,) = await here.booked(1)
        assert booked.asked == ["lab"]
        spent = before - here.books.left_micro(here.budget_id)
        assert spent == booked.cost_micro, "settled exactly once"
    return booked


def by_own_count(booked: Booked) -> None:
    """Estimated by what was heard, with the most that it can be beside it."""
    (attempt,) = booked.attempts
    assert booked.state == "estimated"
    assert attempt["output_tokens"] == OUTPUT_TOKENS
    assert 0 < attempt["prompt_tokens"] < 50
    assert booked.cost_micro == attempt["prompt_tokens"] + 10 * OUTPUT_TOKENS
    assert attempt["upper_micro"] > booked.cost_micro


def all_of(wire: ProviderWire, prompt: int, completion: int) -> list[bytes]:
    return spoken(wire, TEXT, usage=Counted(prompt, completion)).parts


async def absent(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    parts = [without_counts(part) for part in spoken(wire, TEXT).parts]
    by_own_count(await answered(stage, wire, parts))


async def zero(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    booked = await answered(stage, wire, all_of(wire, 0, 0))
    assert (booked.state, booked.cost_micro) == ("settled", 0), "zero is a count"


async def impossible(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    count = stage.draw.choice([-1, -(10**11), 10**12])
    by_own_count(await answered(stage, wire, all_of(wire, count, count)))


async def impossible_output(stage: Stage) -> None:
    """A prompt that can be is believed beside an answer that cannot."""
    wire = stage.draw.choice(WIRES)
    booked = await answered(stage, wire, all_of(wire, 100, 10**12))
    assert booked.state == "estimated"
    assert booked.cost_micro == 100 + 10 * OUTPUT_TOKENS


# --- several, of the wire where hosts differ most -------------------------------------------------


def told(prompt: int, completion: int, **more: Any) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    return chunk(usage={**usage, "total_tokens": prompt + completion}, **more)


def many(*usages: tuple[int, int]) -> list[bytes]:
    return [
        word(TEXT),
        chunk(finish="stop"),
        *(told(prompt, completion, choices=[]) for prompt, completion in usages),
        DONE,
    ]


WHOLE = (USAGE["prompt_tokens"], USAGE["completion_tokens"])


async def several(stage: Stage) -> None:
    """Twice, growing, shrinking, a wrong one behind a right one: the last that can be counts."""
    draw = stage.draw
    growing = [(100, count) for count in range(1, draw.randint(2, 8))]
    before = draw.choice([[WHOLE], growing, [(100, 900)], [(0, 0)], [(-1, -1)], [(10**12, 10**12)]])
    behind = draw.choice([[], [], [(-1, -1)], [(10**12, 10**12)], [(-5, 10**12)]])
    booked = await answered(stage, CHAT_WIRE, many(*before, WHOLE, *behind))
    assert booked.state == ("estimated" if behind else "settled")
    assert booked.cost_micro == WHOLE_MICRO


async def wrong_behind_right(stage: Stage) -> None:
    behind = stage.draw.choice([(-1, -1), (10**12, 10**12), (-5, 10**12), (100, -1)])
    booked = await answered(stage, CHAT_WIRE, many(WHOLE, behind))
    assert (booked.state, booked.cost_micro) == ("estimated", WHOLE_MICRO)


async def in_every_chunk(stage: Stage) -> None:
    """As some hosts do, from the first on."""
    words = re.findall(r" ?\w+", TEXT)
    parts = [
        told(100, 2 * number, choices=[{"index": 0, "delta": {"content": each}}])
        for number, each in enumerate(words, 1)
    ]
    booked = await answered(stage, CHAT_WIRE, [*parts, chunk(finish="stop"), DONE])
    assert (booked.state, booked.cost_micro) == ("settled", 100 + 10 * 2 * len(words))


async def after_the_end(stage: Stage) -> None:
    """What comes behind the end marker is not of this answer."""
    late = told(*stage.draw.choice([WHOLE, (900, 900)]), choices=[])
    is_told = stage.draw.random() < 0.5
    parts = [*many(*([WHOLE] if is_told else [])), late]
    if stage.draw.random() < 0.5:
        parts = [*parts[:-2], parts[-2] + parts[-1]]  # in one frame
    booked = await answered(stage, CHAT_WIRE, parts)
    if is_told:
        assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)
    else:
        by_own_count(booked)


# --- defences -------------------------------------------------------------------------------------


def nothing_is_estimated(patch: pytest.MonkeyPatch) -> None:
    """The estimate of what no provider has counted"""
    patch.setattr(generation, "estimate_usage", lambda *_: Usage(0, 0, 0))


def zero_is_nothing(patch: pytest.MonkeyPatch) -> None:
    """That zero is a count"""

    def seen(read: Callable[..., Usage | None]) -> Callable[..., Usage | None]:
        def reads(*args: Any, **more: Any) -> Usage | None:
            usage = read(*args, **more)
            return usage if usage is not None and usage.prompt_tokens else None

        return reads

    for place in (openai_usage, anthropic_usage, gemini_usage):
        patch.setattr(place, "usage_of", seen(token_counts.usage_of))
    patch.setattr(gemini_usage, "read_usual", seen(gemini_usage.read_usual))


def counts_are_believed(patch: pytest.MonkeyPatch) -> None:
    """The bounds of counts"""
    patch.setattr(generation, "mended", lambda usage, *_: usage)


def last_word_counts(patch: pytest.MonkeyPatch) -> None:
    """That a count which cannot be takes back none that can"""
    account = Generation._account

    def believes(self: Generation, events: Any) -> None:
        account(self, events)
        for event in events:
            if isinstance(event, Usage):
                self._usage, self._is_usage_doubted = event, False

    patch.setattr(Generation, "_account", believes)


def counts_are_added(patch: pytest.MonkeyPatch) -> None:
    """That counts of one answer are not added up"""
    account = Generation._account

    def adds(self: Generation, events: Any) -> None:
        before = self._usage
        account(self, events)
        if before is not None and self._usage is not before:
            assert self._usage is not None
            self._usage = Usage(
                before.prompt_tokens + self._usage.prompt_tokens,
                before.completion_tokens + self._usage.completion_tokens,
                before.total_tokens + self._usage.total_tokens,
            )

    patch.setattr(Generation, "_account", adds)


def end_marker_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    """That the end marker ends an answer"""
    patch.setattr(OpenAIChatCodec, "_on_done", lambda codec: None)
    odd = OpenAIChatCodec._odd_data

    def goes_on(codec: OpenAIChatCodec, name: str, data: bytes) -> Any:
        value = odd(codec, name, data)
        codec._is_done = False
        return value

    patch.setattr(OpenAIChatCodec, "_odd_data", goes_on)
    feed = OpenAIChatCodec._feed_stream

    def without_marker(codec: OpenAIChatCodec, data: bytes | memoryview) -> Any:
        return feed(codec, bytes(data).replace(DONE, b": end\n\n"))

    patch.setattr(OpenAIChatCodec, "_feed_stream", without_marker)


ROWS = (
    Row(
        "U28",
        inject="usage that is absent, zero, negative, told twice, growing, 10¹², behind `[DONE]`",
        client="a normal answer",
        accounting="the last that can be, once; zero stays zero; absent or impossible: estimated by"
        " what was told before and what was heard, and marked",
        retry="nothing; settled exactly once",
        parts=(
            Part("absent", absent, nothing_is_estimated),
            Part("zero", zero, zero_is_nothing),
            Part("impossible", impossible, counts_are_believed),
            Part("impossible_output", impossible_output, counts_are_believed),
            Part("several", several, counts_are_added),
            Part("wrong_behind_right", wrong_behind_right, last_word_counts),
            Part("in_every_chunk", in_every_chunk, counts_are_added),
            Part("after_the_end", after_the_end, end_marker_is_passed_over),
        ),
        also=("tests/codecs/test_openai_usage.py", "tests/test_tokens.py"),
    ),
)
