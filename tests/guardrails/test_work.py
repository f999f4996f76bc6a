"""Nobody waits for what somebody else has said: long requests and long pieces of answers leave the
loop to others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from relay.config import parse
from relay.content import (
    ChoiceFinished,
    FinishReason,
    GenerateRequest,
    Message,
    ResponseFormat,
    Role,
    TextDelta,
    TextPart,
    Usage,
)
from relay.decision import Decision
from relay.guarded import guarded
from relay.guardrails.base import GuardScope
from relay.guardrails.build import chain_of
from relay.guardrails.chain import GuardChain
from relay.guardrails.work import work_chars
from tests.fakes.relay_under_test import Document

PHONES = "+49 30 1234567 " * 3000
SCOPE = GuardScope("", "", "fast", (), "chat_completions")


def chain() -> GuardChain:
    document: Document = {
        "providers": {
            "a": {"wire": "openai_chat", "base_url": "http://127.0.0.1:1/v1", "auth": "none"}
        },
        "guardrails": {
            "rails": {"calls": {"scan": {"kind": "pii", "kinds": ["phone"]}, "action": "redact"}}
        },
    }
    guardrails = parse(document).guardrails
    assert guardrails is not None
    found = chain_of(guardrails, lambda _: pytest.fail("nobody is asked"), None)
    assert found is not None
    return found


def said(text: str = "Hello", **more: Any) -> GenerateRequest:
    return GenerateRequest("fast", (Message(Role.USER, (TextPart(text),)),), **more)


class Turns:
    """How often others had their turn."""

    def __init__(self) -> None:
        self.count = 0

    async def take(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


@contextmanager
def turns() -> Iterator[Turns]:
    found = Turns()
    task = asyncio.get_running_loop().create_task(found.take())
    try:
        yield found
    finally:
        task.cancel()


SCHEMA = orjson.dumps({"type": "object", "properties": {f"k{i}": {} for i in range(3000)}})


@pytest.mark.parametrize(
    "request_",
    [
        said(PHONES),
        said(response_format=ResponseFormat("json_schema", "a", schema_json=SCHEMA)),
        said(extra={"metadata": {f"k{i}": "+49 30 1234567" for i in range(3000)}}),
        said(native={"anthropic_messages": {"system": [{"text": PHONES}]}}),
    ],
    ids=["text", "schema", "metadata", "native"],
)
async def test_a_long_request_is_read_beside_the_loop(request_: GenerateRequest) -> None:
    with turns() as others:
        await chain().check(request_, SCOPE, Decision(), None)
        assert others.count > 0


async def test_counting_ends_where_it_is_enough() -> None:
    assert work_chars(said(), 100) < 100
    assert work_chars(said(extra={"a": ["b" * 50] * 10_000}), 1000) < 1200


class Kept:
    """An answer that comes at once."""

    provider = model = name = "a"
    is_over = True
    output_bytes = None

    def __init__(self, *pieces: str) -> None:
        end = ChoiceFinished(FinishReason.STOP, "stop")
        self.prelude = [*map(TextDelta, pieces), end, Usage(10, 20, 30)]

    async def read(self) -> tuple[()]:
        return ()

    def abort(self) -> None:
        pass


@pytest.mark.parametrize(
    "pieces", [[PHONES], [PHONES[at : at + 2000] for at in range(0, 45_000, 2000)]]
)
async def test_a_long_answer_is_read_in_turns(pieces: list[str]) -> None:
    request = said()
    found = []
    for size in (len(PHONES), 500):
        parts = [piece[at : at + size] for piece in pieces for at in range(0, len(piece), size)]
        decision = Decision()
        guard = chain().over(request, SCOPE, decision, None)
        assert guard is not None
        with turns() as others:
            answer = await guarded(Kept(*parts), guard, decision)  # type: ignore[arg-type]
            assert others.count > 5
        events = [*answer.prelude, *await answer.read()]
        assert Usage(10, 20, 30) in events
        found.append("".join(one.text for one in events if isinstance(one, TextDelta)))
    assert found[0] == found[1]
    assert "1234567" not in found[0]
