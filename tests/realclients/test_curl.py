"""`curl -N`, as the README has it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.realclients.behaviours import (
    ANSWERS,
    DAYS,
    ENDLESS,
    LIMITED,
    REPEATS_RESULTS,
    RESULT,
    RETRY_AFTER_S,
    STRUCTURED,
    TEXT,
    UNKNOWN,
)
from tests.realclients.world import World

TIMEOUT_S = 20.0

if shutil.which("curl") is None:
    pytest.skip("curl is not installed", allow_module_level=True)


def start(world: World, body: dict[str, Any], *options: str) -> subprocess.Popen[bytes]:
    command = ["curl", "-sS", "-N", *options, "-H", "content-type: application/json"]
    hello = {"messages": [{"role": "user", "content": "Hello"}]}
    data = json.dumps({**hello, **body})
    url = f"{world.base_url}/chat/completions"
    return subprocess.Popen([*command, "-d", data, url], stdout=subprocess.PIPE)


def run(world: World, body: dict[str, Any], *options: str) -> str:
    with start(world, body, *options) as process:
        out, _ = process.communicate(timeout=TIMEOUT_S)
    return out.decode()


def text_of(lines: list[str]) -> str:
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines]
    return "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)


def test_text(world: World) -> None:
    answer = json.loads(run(world, {"model": ANSWERS}))
    assert answer["choices"][0]["message"]["content"] == TEXT


def test_stream(world: World) -> None:
    lines = run(world, {"model": ANSWERS, "stream": True}).split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    assert text_of(lines[:-2]) == TEXT


def test_tokens_come_one_by_one(world: World) -> None:
    model = world.scripted({"text": TEXT, "fault": "stall@3"})
    with start(world, {"model": model, "stream": True}) as process:
        assert process.stdout is not None
        # The provider hangs behind the third token: what is here came before the answer's end.
        line = process.stdout.readline().decode().strip()
        process.terminate()
    assert text_of([line]).strip()
    assert TEXT.startswith(text_of([line]))


def test_tool_loop(world: World) -> None:
    model = world.scripted(REPEATS_RESULTS, {"tools": 1})
    tool = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": tool}]
    asked = json.loads(run(world, {"model": model, "tools": tools}))["choices"][0]
    assert asked["finish_reason"] == "tool_calls"
    (call,) = asked["message"]["tool_calls"]
    result = {"role": "tool", "tool_call_id": call["id"], "content": RESULT}
    messages = [{"role": "user", "content": "Hello"}, asked["message"], result]
    answer = json.loads(run(world, {"model": model, "tools": tools, "messages": messages}))
    assert answer["choices"][0]["message"]["content"] == RESULT


def test_structured_output(world: World) -> None:
    schema = {"name": "trip", "schema": {"type": "object"}}
    wanted = {"type": "json_schema", "json_schema": schema}
    answer = json.loads(run(world, {"model": STRUCTURED, "response_format": wanted}))
    assert json.loads(answer["choices"][0]["message"]["content"])["days"] == DAYS


def test_rate_limit(world: World) -> None:
    head, _, body = run(world, {"model": LIMITED}, "-i").partition("\r\n\r\n")
    status, *headers = head.lower().split("\r\n")
    assert " 429 " in status
    assert f"retry-after: {RETRY_AFTER_S}" in headers
    assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"


def test_unknown_model(world: World) -> None:
    with start(world, {"model": UNKNOWN}, "--fail-with-body") as process:
        out, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 22
    assert json.loads(out)["error"]["code"] == "model_not_found"


def test_interrupt_stops_the_provider(world: World) -> None:
    before = world.last_stream()
    with start(world, {"model": ENDLESS, "stream": True}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        world.abandoned(before)
