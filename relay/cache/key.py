"""The name under which an answer is kept: a digest of all that could have made it another one.

What is digested is MessagePack of the request's own structure, and so tells apart whatever differs:
every value carries its type and its length, and no two structures are written alike. A field that
is added to the neutral model is part of the key until it is left out by name here, so that a
mistake costs hits and never gives the wrong answer. (LiteLLM's CVE-2026-35030 came of a key that
was a prefix of what it stood for.)

Left out is what a model never sees: who is told to be the end user (`user`), labels, ids of turns,
sessions and traces, budgets, hedges, keys and marks of the provider's prompt cache on the whole
request. The order of the body's further fields does not matter; the order inside them does, since a
schema's properties are answered in their order.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from relay.cache.base import CacheScope
from relay.content import (
    NO_SAMPLING,
    AudioPart,
    FilePart,
    GenerateRequest,
    ImagePart,
    Message,
    OpaquePart,
    RefusalPart,
    Sampling,
    TextPart,
    Tool,
)

DIGEST_BYTES: Final = 32
Share = Literal["tenant", "key", "everyone"]

LEFT_OUT: Final = frozenset(
    {"model", "user", "prompt_cache_key", "policy", "asked_as", "is_prefix"}
)
"""Fields of a request that are not in its key; the route stands for the model, and prefixes have
none."""

_FORM: Final = "rtrelay exact 1"
_KIND: Final[Mapping[type, str]] = {
    TextPart: "t",
    ImagePart: "i",
    AudioPart: "a",
    FilePart: "f",
    RefusalPart: "r",
    OpaquePart: "o",
}
"""Some parts have the same fields."""

_NEVER_SEEN: Final = frozenset(
    {
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "stream_options",
        "user",
    }
)
"""Further fields that change nothing of an answer."""

_LOOKS_ELSEWHERE: Final = frozenset(
    {
        "container",
        "conversation",
        "mcp_servers",
        "plugins",
        "previous_response_id",
        "search_parameters",
        "store",
        "tools",
        "web_search_options",
    }
)
"""Further fields with which the provider looks something up, does something or keeps something: the
answer is not made of the request alone, or is not all that is wanted. `tools` are here those of one
wire alone."""
_CLIENTS_TOOLS: Final = frozenset({"custom", "function"})
_FLOATS: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty")


def key_of(
    request: GenerateRequest, scope: CacheScope, *, share: Share, epoch: int, max_bytes: int
) -> bytes | None:
    """The key, `DIGEST_BYTES` long; None where the answer must not be kept, or the request is
    larger than `max_bytes`.

    Args:
        share: with whom in the installation an answer is shared.
        epoch: another one is another cache.
        max_bytes: of what is digested.
    """
    if _is_made_elsewhere(request):
        return None
    sampling = request.sampling
    extra = _matters(request.extra)
    told = (
        _FORM,
        epoch,
        share,
        scope.tenant if share != "everyone" else "",
        scope.key_id if share == "key" else "",
        scope.route,
        scope.zones,
        scope.version,
        [_told(message) for message in request.messages],
        request.tools,
        request.tool_choice,
        request.parallel_tool_calls,
        request.prefers_one_call,
        request.response_format,
        sampling if sampling is NO_SAMPLING else _one_spelling(sampling),
        request.reasoning,
        request.service_tier,
        request.want_reasoning,
        request.embedding,
        request.extra_wire if extra else "",
        extra,
        [
            (wire, matters)
            for wire, fields in sorted(request.native.items())
            if (matters := _matters(fields))
        ],
    )
    try:
        written = _ENCODER.encode(told)
    except (OverflowError, UnicodeEncodeError, RecursionError, TypeError):
        return None  # numbers and texts that only JSON can hold; rare, and answered all the same
    if len(written) > max_bytes:
        return None
    return hashlib.sha256(written).digest()


def is_deterministic(request: GenerateRequest) -> bool:
    """Whether the client asked for the same answer each time, as far as a provider can."""
    sampling = request.sampling
    return request.embedding is not None or sampling.temperature == 0 or sampling.seed is not None


def _is_made_elsewhere(request: GenerateRequest) -> bool:
    if request.tools and any(map(_is_the_providers, request.tools)):
        return True
    if request.extra and any(map(request.extra.get, _LOOKS_ELSEWHERE)):
        return True
    return any(
        any(map(fields.get, _LOOKS_ELSEWHERE)) for fields in request.native.values() if fields
    )


def _is_the_providers(tool: Tool) -> bool:
    if tool.opaque is None:
        return False
    kind = tool.opaque.get("type")
    return kind not in _CLIENTS_TOOLS if kind is not None else not tool.name


def _told(message: Message) -> tuple[object, object]:
    """Of a message that only talks its role and text, of others all, behind the kinds of parts."""
    parts = message.parts
    if (
        len(parts) == 1
        and type(part := parts[0]) is TextPart
        and part.cache_control is None
        and not (message.name or message.tool_calls or message.tool_call_id)
        and not (message.reasoning or message.extra or message.native)
    ):
        return message.role, part.text
    return "".join([_KIND[type(part)] for part in parts]), message


def _one_spelling(sampling: Sampling) -> Sampling:
    """0 and 0.0 are one temperature, and one choice is what is asked for without a word."""
    changes: dict[str, Any] = {
        name: value + 0.0  # also of -0.0
        for name in _FLOATS
        if (value := getattr(sampling, name)) is not None and (type(value) is int or not value)
    }
    if sampling.choices == 1:
        changes["choices"] = None
    return dataclasses.replace(sampling, **changes) if changes else sampling


def _matters(fields: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return sorted(
        ((name, value) for name, value in fields.items() if name not in _NEVER_SEEN),
        key=_name_of,
    )


def _name_of(field: tuple[str, Any]) -> str:
    return field[0]


def _plain(value: object) -> object:
    """For mappings that are no dict."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_plain)
