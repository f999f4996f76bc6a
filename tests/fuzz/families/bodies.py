"""Bodies of requests, surface by surface, read as the shim reads them.

Held to: what is refused is refused by the path of a field and in few words; what is taken holds no
more than the limits say, and can be written as any wire without another host or key in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import orjson

from relay.content import GenerateRequest
from relay.errors import InvalidRequest, shown
from relay.frontends.chat_body import MAX_DEPTH, decode_json
from relay.frontends.limits import (
    MAX_CALLS,
    MAX_MESSAGES,
    MAX_NODES,
    MAX_PARTS,
    MAX_VECTOR_NODES,
    Allowance,
    count_nodes,
)
from relay.frontends.messages_body import to_request as read_messages
from relay.frontends.request_policy import POLICY_KEYS, read_policy
from relay.frontends.surfaces.chat_completions import ChatCompletions
from relay.frontends.surfaces.completions import Completions
from relay.frontends.surfaces.embeddings import EmbeddingsApi
from relay.frontends.surfaces.messages import Messages
from relay.frontends.surfaces.responses import Responses
from relay.governance.feedback import checked
from tests.fuzz.families.body_seeds import CHATS, COMPLETIONS, EMBEDDINGS, MESSAGES, RESPONSES
from tests.fuzz.promises import refused_by_name, sent_on
from tests.fuzz.registry import Target

Read = Callable[[dict[str, Any]], GenerateRequest | None]


def decoded(given: bytes, max_nodes: int) -> dict[str, Any]:
    """As `serve_generation` does."""
    nodes = Allowance(max_nodes).take_json(given, "body")
    return decode_json(given, max_nodes, nodes=nodes)


def check(surface: Any, given: bytes) -> bool:
    def read() -> GenerateRequest:
        body = decoded(given, surface.max_nodes)
        policy, model = read_policy({"headers": []}, body)
        surface.wants_stream(body)
        for key in POLICY_KEYS:
            body.pop(key, None)
        if model:
            body["model"] = model
        request: GenerateRequest = surface.read(body, policy).request
        return request

    request = refused_by_name(read)
    if request is not None:
        within_limits(request)
        sent_on(request, len(given))
    return request is not None


def check_count(given: bytes) -> bool:
    def read() -> GenerateRequest:
        body = decoded(given, MAX_NODES)
        return read_messages(body, needs_limit=False)

    request = refused_by_name(read)
    if request is not None:
        within_limits(request)
    return request is not None


def within_limits(request: GenerateRequest) -> None:
    assert request.model
    assert len(request.messages) <= MAX_MESSAGES + MAX_PARTS
    assert sum(len(message.parts) for message in request.messages) <= MAX_PARTS
    assert sum(len(message.tool_calls) for message in request.messages) <= MAX_CALLS


def check_feedback(given: bytes) -> bool:
    names = ("request_id", "score", "label", "comment")

    def read() -> object:
        body = decoded(given, MAX_NODES)
        for name in body:
            if name not in names:
                raise InvalidRequest(f"{shown(name)!r} is not known", field=shown(name) or "body")
        return checked(*(body.get(name) for name in names))

    return refused_by_name(read) is not None


def check_nodes(given: bytes) -> bool:
    """What is counted before a text is parsed is what is in it: no less, and of JSON no more."""
    counted = count_nodes(given)
    try:
        value = orjson.loads(given)
    except orjson.JSONDecodeError:
        return False
    held, depth, level = 0, 0, [value]
    while level:
        depth += 1
        held += len(level)
        below: list[Any] = []
        for one in level:
            if isinstance(one, dict | list) and not one:
                held += 1  # an empty one counts as two
            below += one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        level = below
    # A key that stands twice is in the text twice, and once in the value.
    assert counted >= held or held > MAX_NODES
    if depth > MAX_DEPTH and isinstance(value, dict):
        assert refused_by_name(lambda: decoded(given, MAX_VECTOR_NODES)) is None
    return True


def _bytes(bodies: Iterable[Any]) -> Callable[[], Iterable[bytes]]:
    return lambda: [orjson.dumps(body) for body in bodies]


def _responses() -> Responses:
    return Responses(None, lambda: 0.0, 1 << 20)


WORDS = ({"request_id": "r", "score": 0.5, "label": "good"}, {"request_id": "r"})
DEEP: dict[str, Any] = {}
for _ in range(MAX_DEPTH + 8):
    DEEP = {"a": DEEP}
COUNTED: tuple[Any, ...] = ({"a": [1, {"b": []}], "c": "x,[{"}, {"a": '\\",'}, [[[]]], DEEP)

TARGETS = {
    "chat": Target(partial(check, ChatCompletions()), _bytes(CHATS)),
    "completions": Target(partial(check, Completions()), _bytes(COMPLETIONS)),
    "embeddings": Target(partial(check, EmbeddingsApi()), _bytes(EMBEDDINGS)),
    "messages": Target(partial(check, Messages(("a-beta",))), _bytes(MESSAGES)),
    "responses": Target(partial(check, _responses()), _bytes(RESPONSES)),
    "count_tokens": Target(check_count, _bytes(MESSAGES)),
    "feedback": Target(check_feedback, _bytes(WORDS)),
    "counted_values": Target(check_nodes, _bytes(COUNTED)),
}
