"""What the tools said at the end of a conversation, in whichever wire format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import orjson

from relay.emulator.wires.base import text_of


def last_results(turns: Sequence[object]) -> list[str]:
    """The results behind the model's last turn, in order; empty if it ends otherwise.

    Args:
        turns: `messages`, `contents` or `input` of a request.
    """
    found: list[list[str]] = []
    for turn in reversed(turns):
        results = list(_results(turn)) if isinstance(turn, dict) else []
        if not results:
            break
        found.append(results)
    return [result for results in reversed(found) for result in results]


def _results(turn: Mapping[str, object]) -> Iterator[str]:
    if turn.get("role") == "tool":  # OpenAI chat
        yield text_of(turn.get("content"))
    elif turn.get("type") == "function_call_output":  # Responses
        yield text_of(turn.get("output"))
    else:
        parts = turn.get("content") or turn.get("parts")
        for part in parts if isinstance(parts, list) else []:
            if not isinstance(part, dict):
                continue
            if part.get("type") == "tool_result":  # Anthropic
                yield text_of(part.get("content"))
            elif isinstance(answer := part.get("functionResponse"), dict):  # Gemini
                yield _value(answer.get("response"))
            elif isinstance(answer := part.get("toolResult"), dict):  # Converse
                yield _converse_text(answer.get("content"))


def _converse_text(content: object) -> str:
    """Text of a result's parts, each of which is a text or JSON."""
    parts = (
        [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )
    return " ".join(
        part["text"] if isinstance(part.get("text"), str) else _value(part.get("json"))
        for part in parts
        if "text" in part or "json" in part
    )


def _value(response: object) -> str:
    """The one value of a response, as text; else all of it as JSON."""
    if isinstance(response, dict) and len(response) == 1:
        (response,) = response.values()
    return response if isinstance(response, str) else orjson.dumps(response).decode()
