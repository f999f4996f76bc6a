"""Every recorded or composed exchange of the OpenAI family gives what the corpus expects.

The corpus is read in place (`RELAY_WIRE_CORPUS`, default beside the repository) and nothing of
it is copied here. Bodies are fed whole, byte by byte and cut; streams are also broken off at
every event border.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import orjson
import pytest

from relay.codecs import openai_hot_chunk
from relay.codecs.error_text import public_text
from relay.codecs.openai_chat import OpenAIChatCodec
from relay.content import (
    FinishReason,
    GenerateRequest,
    ProviderFailed,
    Sampling,
    StreamEvent,
    Usage,
)
from relay.emulator.shared_data import wire_corpus
from relay.errors import Reason, UpstreamStatus
from tests.fakes.collect import Collected, collect, pieces_of, run

pytestmark = pytest.mark.corpus

CORPUS = wire_corpus()

PROVIDERS = frozenset(
    {
        "azure-openai",
        "cerebras",
        "deepseek",
        "groq",
        "hf",
        "llamacpp",
        "mistral",
        "ollama",
        "openai-chat",
        "openrouter",
        "perplexity",
        "qwen",
        "sse-framing",
        "together",
        "tokenmix",
        "vllm",
        "xai-chat",
        "zai",
    }
)

# Reasons after which the same target may be asked again; the corpus calls these retryable, while
# `RelayError.retry` also allows another target after the rest.
RETRYABLE = frozenset(
    {
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_FAILED,
        Reason.FIRST_TOKEN_TIMEOUT,
    }
)

# Where we differ from the corpus on purpose.
OTHER_RETRYABLE = {
    # The model's fault, not the request's: openai-compatible.md says that a retry can succeed,
    # and calling it INVALID_ARGUMENT would blame the client.
    ("groq", "tool_use_failed"): True,
}
FAILED_BY_FINISH = {
    # The answer is broken off by the provider: a failure to us, a mere finish reason there.
    "insufficient_system_resource",
}


@cache
def _index() -> list[dict[str, Any]]:
    path = CORPUS / "index.json"
    if not path.is_file():
        return []
    entries: list[dict[str, Any]] = orjson.loads(path.read_bytes())["cases"]
    return [
        entry
        for entry in entries
        if entry["provider"] in PROVIDERS
        # Ollama's own NDJSON surface is another wire.
        and not entry["body_file"].endswith(".ndjson")
        and ("choices" in entry["expected"] or "error" in entry["expected"])
    ]


def _parameters(kind: str) -> list[Any]:
    entries = [
        entry
        for entry in _index()
        if kind == "any" or (kind == "stream" and entry["body_file"].endswith(".sse"))
    ]
    if not entries:
        reason = "the corpus is not here; set RELAY_WIRE_CORPUS"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason), id="no-corpus")]
    return [pytest.param(entry, id=f"{entry['provider']}/{entry['case']}") for entry in entries]


def _body(entry: dict[str, Any]) -> bytes:
    path: str = entry["body_file"]
    return (CORPUS / path).read_bytes()


@cache
def _meta(meta_file: str) -> dict[str, Any]:
    meta: dict[str, Any] = orjson.loads((CORPUS / meta_file).read_bytes())
    return meta


@cache
def _headers(meta_file: str) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in _meta(meta_file)["response"]["headers"]]


def _decode(entry: dict[str, Any], pieces: list[bytes]) -> Collected:
    codec = OpenAIChatCodec()
    asked = len(entry["expected"].get("choices", ()))
    if asked > 1:  # one is what a codec expects anyhow, and this runs for every cut
        codec.encode_request(GenerateRequest("m", (), sampling=Sampling(choices=asked)), "m")
    headers = _headers(entry["meta_file"])
    result = collect(run(codec, pieces, status=entry["status"], headers=headers))
    if "done_sentinel" in entry["expected"] and result.error is None:
        assert codec.is_finished == entry["expected"]["done_sentinel"]
    return result


@pytest.mark.parametrize("entry", _parameters("any"))
def test_case_gives_what_is_expected(entry: dict[str, Any]) -> None:
    result = _decode(entry, [_body(entry)])
    expected = entry["expected"]
    _check_choices(result, expected)
    _check_usage(result.usage, expected)
    _check_error(result, entry)


@pytest.mark.parametrize("entry", _parameters("any"))
def test_case_is_the_same_however_it_is_cut(entry: dict[str, Any]) -> None:
    body = _body(entry)
    whole = _decode(entry, [body])
    assert _decode(entry, pieces_of(body, 1)) == whole, "byte by byte"
    if len(body) <= 4096:
        offsets = range(1, len(body))
    else:
        assert _decode(entry, pieces_of(body, 7)) == whole, "seven bytes at a time"
        offsets = _meta(entry["meta_file"]).get("split_inside_multibyte_at", ())
    for at in offsets:
        assert _decode(entry, [body[:at], body[at:]]) == whole, f"cut at {at}"


@pytest.mark.parametrize("entry", _parameters("stream"))
def test_stream_cut_at_an_event_border_fails_without_finish_reasons(entry: dict[str, Any]) -> None:
    body = _body(entry)
    borders = [match.end() for match in re.finditer(rb"\r\n\r\n|\n\n|\r\r", body)]
    if borders and borders[-1] == len(body):
        borders.pop()
    # A long stream is decoded anew for each border: the first, the last and some between do.
    step = max(1, len(borders) // 100)
    for border in sorted({0, *borders[::step], *borders[-10:]}):
        prefix = body[:border]
        is_clean = _is_ended(prefix, asked=len(entry["expected"].get("choices", ())) or 1)
        result = _decode_prefix(entry, prefix)
        assert (result.error is None) == is_clean, f"cut at {border}"


@pytest.mark.parametrize("entry", _parameters("stream"))
def test_lane_for_text_loses_nothing(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = _body(entry)
    with_lane = [event for event in run(OpenAIChatCodec(), [body]) if not _is_failure(event)]
    monkeypatch.setattr(openai_hot_chunk, "MAX_MISSES", 0)
    assert [event for event in run(OpenAIChatCodec(), [body]) if not _is_failure(event)] == (
        with_lane
    )


def _is_failure(event: StreamEvent) -> bool:
    return isinstance(event, ProviderFailed)  # exceptions do not compare


def _decode_prefix(entry: dict[str, Any], prefix: bytes) -> Collected:
    without_done = {
        **entry,
        "expected": {k: v for k, v in entry["expected"].items() if k != "done_sentinel"},
    }
    return _decode(without_done, [prefix])


def _is_ended(prefix: bytes, asked: int) -> bool:
    """Whether every choice has finished and nothing failed, found without our own parser."""
    open_choices: set[int] = set()
    finished: set[int] = set()
    text = prefix.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace")
    for event in re.split(r"\r\n\r\n|\n\n|\r\r", text):
        data = "\n".join(
            line[5:] for line in re.split(r"\r\n|\n|\r", event) if line.startswith("data:")
        ).strip()
        if not data:
            continue
        if data.endswith("[DONE]"):
            return True
        chunk = json.loads(data)
        if chunk.get("error"):
            return False
        for choice in chunk.get("choices") or ():
            open_choices.add(choice.get("index", 0))
            if choice.get("finish_reason") in FAILED_BY_FINISH | {"error"}:
                return False
            if choice.get("finish_reason"):
                finished.add(choice.get("index", 0))
    return len(finished) >= asked and open_choices == finished


def _check_choices(result: Collected, expected: dict[str, Any]) -> None:
    wanted = {choice["index"]: choice for choice in expected.get("choices", ())}
    for index, choice in wanted.items():
        got = result.choices.get(index)
        if got is None:
            # Nothing came of it before the failure.
            assert not choice["text"]
            assert choice["finish_reason"] is None
            continue
        assert got.text == choice["text"]
        assert got.raw_finish == choice["finish_reason"]
        for name in ("reasoning", "refusal"):
            if name in choice:
                assert getattr(got, name) == (choice[name] or ""), name
        assert [(call.call_id, call.name, call.arguments) for call in got.tool_calls] == [
            (call["id"], call["name"], call["arguments"]) for call in choice["tool_calls"]
        ]
        if got.tool_calls and got.raw_finish == "stop":
            assert got.finish is FinishReason.TOOL_CALLS
        if got.finish is not FinishReason.LENGTH:
            assert not any(call.is_partial for call in got.tool_calls)
    assert set(result.choices) <= set(wanted) or not wanted


def _check_usage(usage: Usage | None, expected: dict[str, Any]) -> None:
    if expected.get("usage") is not None:
        assert usage is not None
        assert orjson.loads(usage.raw_json) == expected["usage"]
    if expected.get("openai_usage") is not None:
        assert usage is not None
        got = {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
            "cached_tokens": usage.cached_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
        }
        wanted = {name: expected["openai_usage"].get(name) for name in got}
        prompt, completion = wanted["prompt_tokens"], wanted["completion_tokens"]
        if wanted["reasoning_tokens"] and wanted["total_tokens"] == (
            prompt + completion + wanted["reasoning_tokens"]
        ):
            # xAI: the corpus copies its count, which leaves reasoning out; we add it.
            wanted["completion_tokens"] += wanted["reasoning_tokens"]
        assert got == wanted


def _check_error(result: Collected, entry: dict[str, Any]) -> None:
    wanted = entry["expected"].get("error")
    finishes = {choice.raw_finish for choice in result.choices.values()}
    if wanted is None:
        assert result.error is None or finishes & FAILED_BY_FINISH, result.error
        return
    failure = result.failure
    assert failure is not None
    if not isinstance(failure, UpstreamStatus):
        assert set(wanted) <= {"note"}, failure  # truncated or empty: nothing was said
        return
    assert failure.http_status == entry["status"]
    if wanted.get("type"):
        assert failure.provider_type == wanted["type"]
    if wanted.get("code") is not None:
        assert failure.provider_code == str(wanted["code"])
    if wanted.get("message"):
        assert failure.public_message.startswith(public_text(wanted["message"]))
    if wanted.get("retryable") is not None:
        key = (entry["provider"], failure.provider_code)
        is_retryable = OTHER_RETRYABLE.get(key, wanted["retryable"])
        assert (failure.reason in RETRYABLE) == is_retryable, failure.reason
    if wanted.get("retry_after_s") is not None:
        assert failure.retry_after_s == pytest.approx(wanted["retry_after_s"])
    _check_secrecy(failure.public_message)


def _check_secrecy(message: str) -> None:
    assert not re.search(r"sk-[A-Za-z0-9]", message)
    assert not re.search(r"\borg-[A-Za-z0-9]{8}", message)
    assert "<html" not in message.lower()
