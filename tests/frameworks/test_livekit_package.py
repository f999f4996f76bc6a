"""The package around the LLM: versions, forks, state of providers, the example."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from livekit.agents import llm
from rtrelay.livekit._state import MessageState, call_extra, restore
from rtrelay.livekit._versions import check_versions

from tests.frameworks.world import World

ROOT = Path(__file__).parents[2]


def test_importing_it_opens_nothing() -> None:
    """LiveKit imports plugins in the process that its jobs are forked from."""
    code = """
import sys, threading
import livekit.agents
before = set(sys.modules), threading.active_count()
import rtrelay.livekit
model = rtrelay.livekit.LLM(model="fast")
new = set(sys.modules) - before[0]
assert not any(name.partition(".")[0] in ("grpc", "google") for name in new), new
assert threading.active_count() == before[1]
packages = [plugin.package for plugin in livekit.agents.Plugin.registered_plugins]
assert "rtrelay.livekit" in packages
print("nothing")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "nothing\n", ran.stderr


async def test_a_job_that_was_forked_after_the_import_gets_answers(world: World) -> None:
    world.script("forked", {"ttft": "5", "itl": "0", "text": "Here I am."})
    code = """
import multiprocessing, sys
from tests.frameworks.livekit_job import answer
if __name__ == "__main__":
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rtrelay.livekit", "tests.frameworks.livekit_job"])
    with context.Pool(1) as jobs:
        for _ in range(2):
            print(jobs.apply(answer, (sys.argv[1], "lab/forked")))
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-c", code, world.address),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    assert output.decode() == "Here I am.\n" * 2, errors.decode()


def test_versions_outside_of_the_tested_are_told() -> None:
    check_versions("1.8.0")
    check_versions("1.8.11rc1")
    for old in ("1.7.4", "0.12.0", "unknown"):
        with pytest.raises(ImportError, match=r"needs livekit-agents 1\.8"):
            check_versions(old)
    for new in ("1.9.0", "2.0.0"):
        with pytest.warns(RuntimeWarning, match=f"{new} is installed"):
            check_versions(new)


async def test_the_example_answers(world: World) -> None:
    world.script(
        "example",
        {"ttft": "5", "itl": "0", "text": "It is sunny in Paris.", "in": "30", "out": "7"},
    )
    world.script(
        "example", {"ttft": "5", "itl": "0", "tools": "1", "in": "20", "out": "9"}, count=1
    )
    status, output, errors = await _example(world.address, "lab/example")
    assert status == 0, errors
    assert output.splitlines() == [
        "[lab example, 29 tokens]",
        "[lab example, 37 tokens]",
        "It is sunny in Paris.",
    ]


async def test_the_example_says_that_there_is_no_such_model(world: World) -> None:
    status, _, errors = await _example(world.address, "nobody")
    assert status == 1
    assert "no answer from the relay" in errors
    assert "Traceback" not in errors.rpartition("no answer from the relay")[2]


async def _example(address: str, model: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "clients" / "python" / "examples" / "livekit_agent.py"),
        env={**os.environ, "RTRELAY_ADDRESS": address, "RTRELAY_MODEL": model},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    return process.returncode, output.decode(), errors.decode()


# --- state of providers ---------------------------------------------------------------------

SIGNED = [{"type": "reasoning.text", "text": "Hm.", "signature": "c2ln"}]


def _messages(*items: llm.ChatItem) -> list[dict[str, Any]]:
    context = llm.ChatContext([llm.ChatMessage(role="user", content=["Hello"]), *items])
    messages, _ = context.to_provider_format(format="openai")
    restore(messages)
    return messages


def test_state_of_a_message_comes_back_with_it() -> None:
    state = MessageState()
    state.add("reasoning_details", json.dumps(SIGNED[:1]).encode())
    state.add("annotations", b"[1]")  # nobody wants these back
    said = llm.ChatMessage(role="assistant", content=["Hi."], extra=state.take())
    assert state.take() == {}
    _, message = _messages(said)
    assert message["reasoning_details"] == SIGNED
    assert "extra_content" not in message
    assert "annotations" not in message


def test_state_of_an_answer_without_text_comes_back_with_its_first_call() -> None:
    state = MessageState()
    for entry in SIGNED * 2:
        state.add("reasoning_details", json.dumps([entry]).encode())
    google = {"google": {"thought_signature": "dGhv"}}
    own = json.dumps({"extra_content": google, "custom": {"a": 1}}).encode()
    extras = [call_extra(own, state.take()), call_extra(b"", state.take())]
    calls = [
        # As LiveKit names the calls of one answer.
        llm.FunctionCall(
            id=f"m/fnc_{number}", call_id=f"c{number}", name="f", arguments="{}", extra=extra or {}
        )
        for number, extra in enumerate(extras)
    ]
    outputs = [
        llm.FunctionCallOutput(call_id=call.call_id, name="f", output="1", is_error=False)
        for call in calls
    ]
    message = next(each for each in _messages(*calls, *outputs) if each["role"] == "assistant")
    assert message["reasoning_details"] == SIGNED * 2
    first, second = message["tool_calls"]
    assert first["extra_content"] == google
    assert first["custom"] == {"a": 1}
    assert "extra_content" not in second


def test_state_of_google_alone_stays_where_livekit_keeps_it() -> None:
    state = MessageState()
    state.add("extra_content", b'{"google": {"thought_signature": "dGhv"}}')
    assert state.take() == {"google": {"thought_signature": "dGhv"}}
    assert call_extra(b"", {}) is None
