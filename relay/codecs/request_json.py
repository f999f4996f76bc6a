"""What wires share in writing a request: JSON spliced in as it is once it is checked, and what a
chat body may ask for that no other wire can say."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from relay.content import GenerateRequest, Sampling, Tool
from relay.errors import InvalidRequest, UnsupportedFeature

CHAT_ONLY: Final[Mapping[str, tuple[object, ...]]] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "modalities": ([], ["text"]),
    "prediction": (),
    "web_search_options": (),
}
"""Extra fields of a chat body that change the answer and that other wires have no word for, with
the values that ask for nothing beside null."""


def parallel_calls(request: GenerateRequest, refuses: Container[str] = ()) -> bool | None:
    """`parallel_tool_calls` of OpenAI's wires, None without tools and where nothing is asked.

    Args:
        refuses: names of what the host does not take.
    """
    if not request.tools:
        return None
    if request.parallel_tool_calls is None and request.prefers_one_call:
        return None if "parallel_tool_calls" in refuses else False
    return request.parallel_tool_calls


_OPAQUE_ID: Final = re.compile(r"(?=[^A-Za-z]*[A-Za-z])[A-Za-z0-9_-]{1,256}")
"""Digits alone, with or without hyphens, are a phone number."""


def refuse_asked(
    extra: Mapping[str, Any], fields: Mapping[str, tuple[object, ...]], provider: str
) -> None:
    """
    Args:
        fields: like `CHAT_ONLY`.

    Raises:
        UnsupportedFeature: one of the fields asks for something; named.
    """
    for name, nothing in fields.items():
        value = extra.get(name)
        if value is not None and value not in nothing:
            raise UnsupportedFeature(name, provider)


def read_object(text: bytes, field: str) -> dict[str, Any]:
    """The value of a JSON object given as text.

    Args:
        field: where it stands, for the message.

    Raises:
        InvalidRequest: it is not JSON, or no object.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidRequest(f"{field} is not JSON", field=field) from None
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field} must be a JSON object", field=field)
    return value


def past_arguments(text: str) -> object:
    """The arguments of a past call, which must be an object: what a model wrote otherwise goes
    back as the text it is, under one key."""
    if not text or text.isspace():
        return {}
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"arguments": text}
    # The same bytes each time, which a cached prefix must have.
    return orjson.Fragment(text) if isinstance(value, dict) else {"arguments": value}


def spliced(text: bytes, field: str) -> orjson.Fragment:
    """JSON text to be written as it is, once it is known to be one JSON object.

    Raises:
        InvalidRequest: as `read_object`.
    """
    read_object(text, field)
    return orjson.Fragment(text)


def default_tier(tier: str) -> str | None:
    """A service tier in the words of OpenAI and Bedrock, where Google's `standard` is `default`;
    None for none."""
    return "default" if tier == "standard" else tier or None


def dump_body(body: Mapping[str, Any]) -> bytes:
    """A request's body.

    Raises:
        InvalidRequest: something in it cannot be written as JSON.
    """
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        # Half a surrogate pair in a text, most likely: no provider could read it either.
        raise InvalidRequest(f"the request cannot be written as JSON: {error}") from None


def cache_key(request: GenerateRequest) -> str:
    """`prompt_cache_key` for providers that know it: the client's own, else with
    `prompt_cache: auto` one made of its session, else none.

    A session's id is the client's to choose and may say who calls: the provider sees a hash, with
    the tenant in it, so that two who name their sessions alike have two keys.
    """
    policy = request.policy
    if request.prompt_cache_key or policy.prompt_cache != "auto" or not policy.session_id:
        return request.prompt_cache_key
    session_id = policy.session_id.encode("utf-8", "replace")
    tenant = policy.tenant.encode("utf-8", "replace")
    # By a key of its own length, so that no tenant and session make another's.
    of_tenant = hashlib.blake2b(tenant, digest_size=32).digest() if tenant else b""
    return hashlib.blake2b(session_id, digest_size=16, key=of_tenant).hexdigest()


def opaque_user(user: str) -> str:
    """A user's id for providers that refuse what may name a person: as it is where it is an id
    already, else a hash of it, the same one each time."""
    if _OPAQUE_ID.fullmatch(user):
        return user
    return hashlib.blake2b(user.encode("utf-8", "replace"), digest_size=16).hexdigest()


def said_stops(sampling: Sampling) -> list[str]:
    """The stop texts without empty ones, which say nothing and are answered with 400."""
    return [text for text in sampling.stop if text]


def without_marks(value: Mapping[str, Any]) -> dict[str, Any]:
    """A part or tool that we do not read, without the client's cache breakpoints: hints, which
    hosts that do not know them answer with 400."""
    return {
        name: without_marks(inner) if name == "function" and isinstance(inner, Mapping) else inner
        for name, inner in value.items()
        if name != "cache_control"
    }


def readable_tool(tool: Tool, wire: str, provider: str) -> Tool:
    """A tool as `wire` may take it: without a definition that is written for another one.

    Raises:
        UnsupportedFeature: the definition is all that is known of it; its type is named.
    """
    if tool.opaque is None or tool.opaque_wire in ("", wire):
        return tool
    if tool.parameters_json:
        return replace(tool, opaque=None)
    kind = str(tool.opaque.get("type"))[:100]
    raise UnsupportedFeature(f"a tool of type {kind}", provider)


def data_url(media_type: str, data_base64: str) -> str:
    """Inline bytes as a URL."""
    return f"data:{media_type};base64,{data_base64}"
