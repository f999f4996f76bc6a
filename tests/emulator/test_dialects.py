"""Hosts compatible with OpenAI: each differs as the wire notes say."""

from __future__ import annotations

from typing import Any

import pytest

from relay.emulator.wires.dialects import DIALECTS
from tests.emulator.calls import chat, chat_text, frames, post
from tests.fakes.emulator_process import EmulatorProcess

pytestmark = pytest.mark.sockets

MODEL = "emu:ttft=1,itl=0,tokens=4,reason=2"


def stream(emulator: EmulatorProcess, dialect: str, **fields: object) -> tuple[bytes, list[Any]]:
    body = post(emulator, f"/{dialect}/v1/chat/completions", chat(MODEL, **fields)).content
    return body, [frame.json for frame in frames(body) if frame.data != "[DONE]"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_gives_text_and_a_finish(emulator: EmulatorProcess, dialect: str) -> None:
    body, chunks = stream(emulator, dialect)
    assert chat_text(body).endswith(".")
    finishes = [
        choice["finish_reason"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice.get("finish_reason")
    ]
    assert set(finishes) == {"stop"}


@pytest.mark.parametrize("dialect", sorted(set(DIALECTS) - {"perplexity"}))
def test_stream_ends_with_done(emulator: EmulatorProcess, dialect: str) -> None:
    assert stream(emulator, dialect)[0].endswith(b"data: [DONE]\n\n")


def test_perplexity_has_crlf_growing_usage_and_no_done(emulator: EmulatorProcess) -> None:
    body, chunks = stream(emulator, "perplexity")
    assert b"[DONE]" not in body
    assert body.count(b"\n") == body.count(b"\r\n")
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks if "usage" in chunk]
    assert counts == sorted(counts)
    assert len(set(counts)) > 2


@pytest.mark.parametrize("dialect", ["deepseek", "mistral", "together", "zai"])
def test_usage_is_on_the_finish_chunk(emulator: EmulatorProcess, dialect: str) -> None:
    _, chunks = stream(emulator, dialect)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize(
    ("dialect", "field"),
    [("deepseek", "reasoning_content"), ("groq", "reasoning"), ("openrouter", "reasoning")],
)
def test_reasoning_has_its_field(emulator: EmulatorProcess, dialect: str, field: str) -> None:
    _, chunks = stream(emulator, dialect)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    assert "".join(delta.get(field) or "" for delta in deltas) == "The."


def test_openai_never_streams_reasoning(emulator: EmulatorProcess) -> None:
    body, _ = stream(emulator, "openai")
    assert b"reasoning" not in body


def test_groq_puts_usage_into_x_groq(emulator: EmulatorProcess) -> None:
    _, chunks = stream(emulator, "groq", stream_options={"include_usage": True})
    assert chunks[0]["x_groq"]["id"]
    with_finish = [c for c in chunks if c["choices"] and c["choices"][0].get("finish_reason")]
    assert with_finish[0]["x_groq"]["usage"]["completion_tokens"] == 6
    assert with_finish[0]["usage"]["completion_tokens"] == 6
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 6


def test_openrouter_repeats_the_choice_with_usage(emulator: EmulatorProcess) -> None:
    _, chunks = stream(emulator, "openrouter")
    finishes = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
    assert finishes[-2:] == ["stop", "stop"]
    assert "usage" not in chunks[-2]
    assert chunks[-1]["usage"]["completion_tokens"] == 6


@pytest.mark.parametrize("dialect", ["qwen", "xai"])
def test_finish_reason_is_absent_until_the_end(emulator: EmulatorProcess, dialect: str) -> None:
    _, chunks = stream(emulator, dialect)
    with_key = [c for c in chunks if c["choices"] and "finish_reason" in c["choices"][0]]
    assert len(with_key) == 1


@pytest.mark.parametrize("dialect", ["mistral", "groq", "ollama"])
def test_tool_calls_come_complete(emulator: EmulatorProcess, dialect: str) -> None:
    body = post(
        emulator, f"/{dialect}/v1/chat/completions", chat("emu:ttft=1,itl=0,tools=2")
    ).content
    lists = [
        choice["delta"]["tool_calls"]
        for frame in frames(body)
        if frame.data != "[DONE]"
        for choice in frame.json["choices"]
        if "tool_calls" in choice["delta"]
    ]
    assert [len(calls) for calls in lists] == [2]
    assert all(call["function"]["arguments"].endswith("}") for call in lists[0])


def test_comments_keep_a_slow_answer_alive(emulator: EmulatorProcess) -> None:
    body = post(
        emulator,
        "/openrouter/v1/chat/completions",
        chat("emu:ttft=60,itl=0,tokens=2,keepalive=10"),
    ).content
    assert body.startswith(b": OPENROUTER PROCESSING\n\n")
    assert body.count(b": OPENROUTER PROCESSING\n\n") in (4, 5, 6)


@pytest.mark.parametrize("dialect", ["deepseek", "openrouter"])
def test_whole_answer_has_whitespace_before_json(emulator: EmulatorProcess, dialect: str) -> None:
    answer = post(emulator, f"/{dialect}/v1/chat/completions", chat(MODEL, stream=False))
    assert answer.content[:1] == b"\n"
    assert answer.json()["object"] == "chat.completion"


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        ("mistral", 401, {"detail": "Invalid API Key"}),
        ("vllm", 401, {"error": "Unauthorized"}),
        ("xai", 400, {"code": "invalid-argument", "error": "The key given is not valid."}),
    ],
)
def test_bad_key_in_the_hosts_own_shape(
    emulator: EmulatorProcess, dialect: str, status: int, body: object
) -> None:
    headers = {"authorization": "Bearer bad-key"}
    answer = post(emulator, f"/{dialect}/v1/chat/completions", chat(MODEL), headers)
    assert answer.status_code == status
    assert answer.json() == body


def test_dialect_by_script(emulator: EmulatorProcess) -> None:
    answer = post(emulator, "/v1/chat/completions", chat(MODEL + ",dialect=deepseek"))
    assert "x-ds-trace-id" in answer.headers
