"""The semantic cache: what is given again, to whom, and what never is."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from relay.content import (
    ChoiceFinished,
    EmbeddingOptions,
    FinishReason,
    ImagePart,
    Message,
    NativeBlocks,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolCallDone,
    ToolCallStart,
)
from tests.cache.semantic_world import WordEmbedder, World, stored
from tests.cache.world import SCOPE, asked
from tests.fakes.virtual_time import on_virtual_time

FRANCE = "What is the capital of France?"
SAME = "Can you tell me what the capital of France is?"


def talk(*turns: str, **fields: Any) -> Any:
    """A conversation: user and assistant in turn."""
    roles = (Role.USER, Role.ASSISTANT)
    messages = tuple(
        Message(roles[index % 2], (TextPart(turn),)) for index, turn in enumerate(turns)
    )
    return asked(messages=messages, **fields)


@on_virtual_time
async def test_a_turn_that_means_the_same_is_answered_again() -> None:
    world = World()
    await world.keep(FRANCE)
    look = await world.look(SAME)
    assert look is not None
    assert look.hit is not None
    assert look.hit.stored.provider == "acme"
    assert 0.5 < look.hit.similarity < 1
    assert world.cache.counts["hit"] == 1


@pytest.mark.parametrize(
    ("turn", "why"),
    [
        ("What is not the capital of France?", "negation"),
        ("What isn't the capital of France?", "negation"),
        ("What is the capital of Spain?", "name"),
        ("What is the 2nd capital of France?", "number"),
        ("What was the capital of France?", "tense"),
        ("Where is the capital of France?", "question"),
        ("What is the old port of the capital of France?", "name"),
        ("What is the largest harbour of the capital of France?", "name"),
    ],
)
@on_virtual_time
async def test_what_differs_is_not(turn: str, why: str) -> None:
    world = World()
    await world.keep(FRANCE)
    assert await world.answer(turn) is None
    assert world.cache.counts[f"differs_in_{why}"] == 1


@on_virtual_time
async def test_the_second_nearest_answers_where_the_nearest_differs() -> None:
    world = World()
    await world.keep("Tell me what is not the capital of France is?", "Lyon.")
    await world.keep(FRANCE, "Paris.")
    assert await world.answer(SAME) == "Paris."


BASE = talk("Hello", "Hi, how can I help?", FRANCE)
OTHERS: dict[str, Any] = {
    "earlier turn": talk("Hello!", "Hi, how can I help?", FRANCE),
    "earlier answer": talk("Hello", "Hi!", FRANCE),
    "no earlier turns": asked(FRANCE),
    "system prompt": replace(
        BASE, messages=(Message(Role.SYSTEM, (TextPart("Answer in French."),)), *BASE.messages)
    ),
    "tools": replace(BASE, tools=(Tool("lookup"),)),
    "temperature": replace(BASE, sampling=Sampling(temperature=0.3)),
    "length": replace(BASE, sampling=Sampling(max_output_tokens=5)),
    "format": replace(BASE, response_format=ResponseFormat("json_object")),
    "further field": replace(BASE, extra={"verbosity": "low"}),
}


@pytest.mark.parametrize("name", OTHERS)
@on_virtual_time
async def test_everything_but_the_last_turn_must_be_the_same(name: str) -> None:
    world = World()
    await world.keep(BASE)
    assert await world.answer(BASE) == "Paris."
    assert await world.answer(OTHERS[name]) is None


@pytest.mark.parametrize("field", ["tenant", "zones", "version"])
@on_virtual_time
async def test_nobody_elses_answers(field: str) -> None:
    world = World()
    await world.keep(FRANCE)
    assert await world.answer(FRANCE, SCOPE._replace(**{field: "other"})) is None
    assert await world.answer(FRANCE, SCOPE._replace(key_id="other")) == "Paris."


@on_virtual_time
async def test_routes_are_apart_and_others_not_looked_up() -> None:
    world = World(routes={"fast": {}, "voice": {}})
    await world.keep(FRANCE)
    assert await world.answer(FRANCE, SCOPE._replace(route="voice")) is None
    assert await world.look(FRANCE, SCOPE._replace(route="slow")) is None


@on_virtual_time
async def test_shared_as_the_operator_says() -> None:
    by_key = World(share="key")
    await by_key.keep(FRANCE)
    assert await by_key.answer(FRANCE, SCOPE._replace(key_id="other")) is None
    by_all = World(share="everyone")
    await by_all.keep(FRANCE)
    assert await by_all.answer(SAME, SCOPE._replace(tenant="other", key_id="other")) == "Paris."


@on_virtual_time
async def test_settings_of_a_route() -> None:
    world = World(routes={"fast": {"threshold": 0.999, "ttl_s": 10}})
    await world.keep(FRANCE)
    assert await world.answer(SAME) is None
    assert await world.answer(FRANCE) == "Paris."
    await asyncio.sleep(11)
    assert await world.answer(FRANCE) is None


@on_virtual_time
async def test_the_client_may_want_a_younger_one() -> None:
    world = World()
    await world.keep(FRANCE)
    await asyncio.sleep(100)
    assert await world.answer(SAME, max_age_s=99) is None
    assert await world.answer(SAME, max_age_s=101) == "Paris."


@on_virtual_time
async def test_a_refresh_is_kept_in_its_place() -> None:
    world = World()
    await world.keep(FRANCE, "Lyon.")
    look = await world.look(FRANCE, is_refresh=True)
    assert look is not None
    assert look.hit is None
    look.keep(stored("Paris."))
    assert await world.answer(SAME) == "Paris."


LAST = {
    "image beside": Message(
        Role.USER, (TextPart(FRANCE), ImagePart(url="https://example.org/a.png"))
    ),
    "two texts": Message(Role.USER, (TextPart("What is"), TextPart("that?"))),
    "a tool's": Message(Role.TOOL, (TextPart(FRANCE),), tool_call_id="c"),
    "an assistant's": Message(Role.ASSISTANT, (TextPart(FRANCE),)),
    "of another form": Message(
        Role.USER, (TextPart(FRANCE),), native=NativeBlocks("anthropic", ({"type": "text"},))
    ),
    "with fields": Message(Role.USER, (TextPart(FRANCE),), extra={"x": 1}),
    "empty": Message(Role.USER, (TextPart("  "),)),
    "long": Message(Role.USER, (TextPart("word " * 200),)),
    "invisible": Message(Role.USER, (TextPart("What is the capital of Fra\u200bnce?"),)),
    "homoglyph": Message(Role.USER, (TextPart("What is the capital of Fr\u0430nce?"),)),
}


@pytest.mark.parametrize("name", LAST)
@on_virtual_time
async def test_such_turns_are_never_looked_up(name: str) -> None:
    world = World()
    assert await world.look(asked(messages=(LAST[name],))) is None
    assert world.embedder.texts == []


@on_virtual_time
async def test_embeddings_are_not_looked_up() -> None:
    request = asked(messages=(), embedding=EmbeddingOptions((FRANCE,)))
    assert await World().look(request) is None


@on_virtual_time
async def test_without_a_vector_there_is_no_cache() -> None:
    embedder = WordEmbedder()
    embedder.fails = True
    world = World(embedder)
    assert await world.look(FRANCE) is None
    assert world.cache.counts["no_vector"] == 1


class SlowEmbedder(WordEmbedder):
    async def vector(self, *given: Any) -> Any:
        await asyncio.sleep(0.3)
        return await super().vector(*given)


@on_virtual_time
async def test_a_vector_is_waited_for_for_a_bounded_time() -> None:
    assert await World(SlowEmbedder(), embedding_timeout_ms=200).look(FRANCE) is None
    assert await World(SlowEmbedder(), embedding_timeout_ms=400).look(FRANCE) is not None


@on_virtual_time
async def test_cancelled_while_it_looks() -> None:
    world = World(SlowEmbedder(), embedding_timeout_ms=400)
    task = asyncio.create_task(world.look(FRANCE))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@on_virtual_time
async def test_tool_calls_are_not_kept() -> None:
    world = World()
    look = await world.look("Set a timer")
    assert look is not None
    calls = (
        ToolCallStart(0, "call_1", "timer"),
        ToolCallDone(0, "call_1", "timer", "{}"),
        ChoiceFinished(FinishReason.TOOL_CALLS, "tool_calls"),
    )
    look.keep(stored("", events=calls))
    assert await world.answer("Set a timer") is None


@on_virtual_time
async def test_large_answers_are_not_kept() -> None:
    world = World(max_answer_bytes=1024)
    await world.keep(FRANCE, "x" * 2000)
    assert await world.answer(FRANCE) is None


@on_virtual_time
async def test_another_epoch_forgets() -> None:
    world = World()
    await world.keep(FRANCE)
    assert await World(store=world.store, epoch=1).answer(FRANCE) is None
    assert await World(store=world.store).answer(FRANCE) == "Paris."


@on_virtual_time
async def test_another_embedder_forgets() -> None:
    world = World()
    await world.keep(FRANCE)
    other = WordEmbedder()
    other.name = "others"
    assert await World(other, store=world.store).answer(FRANCE) is None
