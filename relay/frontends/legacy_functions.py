"""`functions` and `function_call`, by which OpenAI's chat called tools before it had `tools`.

They are read as tools, so that every wire can answer them; `chat_stream` writes such an answer back
the old way. A call had no id then, so each gets one here, and a result belongs to the last call of
its name. A call whose result is not there stays as it is: OpenAI takes it, and as a tool call it
would not be one without a result.

Source: OpenAI's API reference, "Chat completions", deprecated fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.errors import InvalidRequest


def uses_functions(body: Mapping[str, Any]) -> bool:
    """Whether the answer is expected the old way."""
    return bool(body.get("functions"))


def as_tools(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body with tools in place of functions; itself where it has none.

    Raises:
        InvalidRequest: a field is wrong, or both ways are used at once.
    """
    messages = body.get("messages")
    pairs = _pairs(messages) if isinstance(messages, list) else {}
    if not (pairs or body.get("functions") or body.get("function_call")):
        return body
    found = {key: value for key, value in body.items() if key not in _OLD}
    if functions := body.get("functions"):
        if body.get("tools"):
            raise InvalidRequest("functions may not be given beside tools", field="functions")
        if not isinstance(functions, list):
            raise InvalidRequest("functions must be an array", field="functions")
        found["tools"] = [
            {"type": "function", "function": _object(item, f"functions[{at}]")}
            for at, item in enumerate(functions)
        ]
        if (choice := body.get("function_call")) is not None:
            found["tool_choice"] = _choice(choice)
    elif body.get("function_call") not in (None, "none", "auto"):
        raise InvalidRequest("function_call needs functions", field="function_call")
    if isinstance(messages, list) and pairs:
        found["messages"] = [_message(item, at, pairs.get(at)) for at, item in enumerate(messages)]
    return found


_OLD = ("functions", "function_call")


def _object(value: object, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(f"{path} must be an object", field=path)
    return value


def _choice(value: object) -> object:
    if value in ("none", "auto"):
        return value
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidRequest(
            "function_call must be none, auto, or an object with a name", field="function_call"
        )
    return {"type": "function", "function": {"name": name}}


def _pairs(messages: list[Any]) -> dict[int, int]:
    """Where results are -> where their calls are, and where calls are -> there."""
    last_of: dict[str, int] = {}
    pairs: dict[int, int] = {}
    for at, item in enumerate(messages):
        if not isinstance(item, dict):
            continue  # refused by name where messages are read
        call = item.get("function_call")
        name = call.get("name") if isinstance(call, dict) else item.get("name")
        if not isinstance(name, str):
            continue
        if isinstance(call, dict) and item.get("role") == "assistant":
            last_of[name] = at
        elif item.get("role") == "function" and name in last_of:
            call_at = last_of.pop(name)
            pairs[at] = pairs[call_at] = call_at
    return pairs


def _message(item: dict[str, Any], at: int, call_at: int | None) -> dict[str, Any]:
    """One message, of a pair in the new way."""
    if call_at is None:
        return item
    call_id = f"call_{call_at}"
    if at == call_at:
        rest = {key: value for key, value in item.items() if key != "function_call"}
        entry = {"id": call_id, "type": "function", "function": item["function_call"]}
        return {**rest, "tool_calls": [*(item.get("tool_calls") or ()), entry]}
    rest = {key: value for key, value in item.items() if key != "name"}
    return {**rest, "role": "tool", "tool_call_id": call_id}
