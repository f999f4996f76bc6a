"""One question asked over each frontend, and the answer in one shape, so that tests can compare.

    for ask in ASKERS.values():
        reply = await ask(relay, "fast")
        assert reply.text == "Hello!" and reply.is_clean

`sse` and `json` read the HTTP shim byte by byte, without any client library; `generate` and
`converse` are gRPC. What a frontend must never do is asserted here: a `[DONE]` after an error, a
clean end without one, an RPC status that differs from the end's error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from rtrelay.v1 import Outcome

from tests.fakes.converse_client import Answer, reason_of, start, status_of
from tests.fakes.relay_under_test import RelayUnderTest, chat_body, sse_payloads

DONE = "data: [DONE]\n\n"


@dataclass
class Reply:
    """What a client was told."""

    text: str
    reason: str = ""
    """Name of the ErrorReason; empty for a clean end."""
    code: str = ""
    """gRPC code or HTTP status of the failure as text; empty where the head was out already."""
    message: str = ""
    """The error's public text."""
    usage: dict[str, Any] = field(default_factory=dict)
    provider: str = ""
    """Who answered."""
    attempts: int = 0
    retry_after_s: float | None = None
    everything: str = ""
    """All that came, for searching."""

    @property
    def is_clean(self) -> bool:
        return not self.reason


Ask = Callable[[RelayUnderTest, str], Awaitable[Reply]]


async def ask_sse(relay: RelayUnderTest, model: str, **headers: str) -> Reply:
    """Stream over the shim."""
    body = chat_body(model, stream_options={"include_usage": True})
    response = await relay.chat(body, **headers)
    everything = f"{response.text}\n{response.headers.raw!r}"
    common: dict[str, Any] = {
        "provider": response.headers.get("x-relay-provider", ""),
        "attempts": int(response.headers.get("x-relay-attempts", "0")),
        "everything": everything,
    }
    if response.status_code != 200:
        assert response.headers["content-type"] == "application/json"
        return _refused(response.status_code, response.text, dict(response.headers), common)
    assert response.headers["content-type"].startswith("text/event-stream")
    payloads = sse_payloads(response.text)
    usage: dict[str, Any] = {}
    text = reason = message = ""
    for payload in payloads:
        if "error" in payload:
            assert payload is payloads[-1], "something came after the error"
            assert "[DONE]" not in response.text, "an error is no clean end"
            reason = payload["error"]["x_relay"]["reason"]
            message = payload["error"]["message"]
            continue
        usage = payload.get("usage") or usage
        for choice in payload["choices"]:
            text += choice["delta"].get("content") or ""
    assert bool(reason) != response.text.endswith(DONE), "neither an error nor [DONE]"
    return Reply(text=text, reason=reason, message=message, usage=usage, **common)


async def ask_json(relay: RelayUnderTest, model: str) -> Reply:
    """One document over the shim."""
    response = await relay.chat(chat_body(model, stream=False))
    common: dict[str, Any] = {
        "provider": response.headers.get("x-relay-provider", ""),
        "attempts": int(response.headers.get("x-relay-attempts", "0")),
        "everything": f"{response.text}\n{response.headers.raw!r}",
    }
    if response.status_code != 200:
        return _refused(response.status_code, response.text, dict(response.headers), common)
    body = response.json()
    text = body["choices"][0]["message"]["content"]
    return Reply(text=text, usage=body["usage"], **common)


def _refused(status: int, text: str, headers: dict[str, str], common: dict[str, Any]) -> Reply:
    error = orjson.loads(text)["error"]
    after = headers.get("retry-after")
    return Reply(
        text="",
        reason=error["x_relay"]["reason"],
        code=str(status),
        message=error["message"],
        retry_after_s=float(after) if after is not None else None,
        **common,
    )


async def ask_generate(relay: RelayUnderTest, model: str) -> Reply:
    """The unary-stream RPC."""
    result = await relay.generate(start("g", model))
    if result.answer.end is None:  # refused before anything of it was read
        status = status_of(result.error)
        return Reply("", reason_of(status), str(status.code), status.message)
    reply = _of_answer(result.answer)
    if reply.is_clean:
        assert result.error is None
    else:
        assert result.answer.end is not None
        assert status_of(result.error) == result.answer.end.error
        reply.everything += repr(result.error)
    return reply


async def ask_converse(relay: RelayUnderTest, model: str) -> Reply:
    """A session of its own, which must outlive its generation."""
    async with relay.talk() as talk:
        await talk.start("g", model=model)
        reply = _of_answer(await talk.ended("g"))
        await talk.half_close()
        assert await talk.over() is None, "a failed generation ended the session"
    return reply


def _of_answer(answer: Answer) -> Reply:
    end = answer.end
    assert end is not None
    reply = Reply(
        text=answer.text,
        usage={
            "prompt_tokens": end.usage.prompt_tokens,
            "completion_tokens": end.usage.completion_tokens,
            "total_tokens": end.usage.total_tokens,
            "is_estimated": end.usage.is_estimated,
        },
        provider=end.provider,
        attempts=len(end.attempts),
        everything="\n".join(map(str, answer.frames)),
    )
    if end.outcome == Outcome.OUTCOME_COMPLETED:
        assert not end.HasField("error")
        assert answer.finish_reasons
        return reply
    assert end.outcome == Outcome.OUTCOME_FAILED
    reply.reason = reason_of(end.error)
    reply.code = str(end.error.code)
    reply.message = end.error.message
    return reply


ASKERS: dict[str, Ask] = {
    "sse": ask_sse,
    "json": ask_json,
    "generate": ask_generate,
    "converse": ask_converse,
}
