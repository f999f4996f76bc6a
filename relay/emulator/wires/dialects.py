"""Quirks of hosts that are compatible with OpenAI's chat interface (wire notes, table).

A dialect is chosen by the path (`/deepseek/v1/chat/completions`) or by `dialect=` of the script.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from relay.emulator.answer import Json
from relay.emulator.wires.base import Failure

ErrorShape = Callable[[int, Failure], Json]

_OPENAI_CODES: Mapping[str, tuple[str, str | None]] = {
    "bad_request": ("invalid_request_error", "invalid_value"),
    "context": ("invalid_request_error", "context_length_exceeded"),
    "auth": ("invalid_request_error", "invalid_api_key"),
    "billing": ("insufficient_quota", "credit_balance_exhausted"),
    "permission": ("invalid_request_error", "unsupported_country_region_territory"),
    "not_found": ("invalid_request_error", "model_not_found"),
    "too_large": ("invalid_request_error", "request_too_large"),
    "unprocessable": ("invalid_request_error", "invalid_value"),
    "rate": ("requests", "rate_limit_exceeded"),
    "quota": ("insufficient_quota", "insufficient_quota"),
    "unavailable": ("service_unavailable_error", "server_is_overloaded"),
    "overloaded": ("service_unavailable_error", "server_is_overloaded"),
}


def openai_error(status: int, failure: Failure) -> Json:
    """`{"error": {"message", "type", "param", "code"}}`."""
    kind, code = _OPENAI_CODES.get(failure.kind, ("server_error", None))
    param = "model" if failure.kind == "not_found" else None
    return {"error": {"message": failure.message, "type": kind, "param": param, "code": code}}


def deepseek_error(status: int, failure: Failure) -> Json:
    """OpenAI's shape; the code says `invalid_request_error` whatever is wrong."""
    kind = "authentication_error" if status == 401 else "invalid_request_error"
    message = failure.message
    return {
        "error": {"message": message, "type": kind, "param": None, "code": "invalid_request_error"}
    }


def mistral_error(status: int, failure: Failure) -> Json:
    """Flat, but a bare `detail` for a bad key."""
    if status == 401:
        return {"detail": "Invalid API Key"}
    if status == 422:
        return {"detail": [{"type": "extra_forbidden", "loc": ["body"], "msg": failure.message}]}
    kind = {"rate": "rate_limited", "not_found": "invalid_model"}.get(failure.kind, failure.kind)
    code = {"rate": "1300", "not_found": "1500"}.get(failure.kind, "1000")
    return {
        "object": "error",
        "message": failure.message,
        "type": kind,
        "param": None,
        "code": code,
        "raw_status_code": status,
    }


def openrouter_error(status: int, failure: Failure) -> Json:
    """The code is the status; the upstream's body is a string inside."""
    raw = orjson.dumps(openai_error(status, failure)).decode()
    metadata = {"provider_name": "Emulator", "raw": raw}
    return {"error": {"code": status, "message": failure.message, "metadata": metadata}}


def xai_error(status: int, failure: Failure) -> Json:
    """`error` is a string."""
    return {"code": "invalid-argument", "error": failure.message}


def vllm_error(status: int, failure: Failure) -> Json:
    """The code is the status as a number."""
    if status == 401:
        return {"error": "Unauthorized"}
    kind = "NotFoundError" if status == 404 else "BadRequestError"
    return {"error": {"message": failure.message, "type": kind, "param": None, "code": status}}


def perplexity_error(status: int, failure: Failure) -> Json:
    """OpenAI's names with the status as code."""
    return {"error": {"message": failure.message, "type": failure.kind, "code": status}}


def qwen_error(status: int, failure: Failure) -> Json:
    """OpenAI's shape with `request_id` beside it."""
    return {**openai_error(status, failure), "request_id": "emulator"}


@dataclass(frozen=True)
class Dialect:
    """How one host differs from OpenAI."""

    name: str
    id_prefix: str = "chatcmpl-"
    tool_id_prefix: str = "call_"
    reasoning_field: str = ""
    """Delta field with reasoning text; empty: the host never streams it."""
    usage: str = "chunk"
    """chunk (empty choices) | finish (on the finish chunk) | every (growing) | repeat-choice."""
    usage_always: bool = False
    """Whether usage comes without `include_usage` as well."""
    keepalive: bytes = b": keep-alive\n\n"
    before_json: bytes = b""
    """What comes before a whole answer's JSON."""
    done: bool = True
    done_after_error: bool = False
    error_event_name: bool = False
    """Whether an error in the stream comes as `event: error`."""
    crlf: bool = False
    tools_whole: bool = False
    """Whether all tool calls come complete in one chunk."""
    empty_ids_later: bool = False
    """Whether later deltas of a tool call have `id: ""`."""
    finish_absent: bool = False
    """Whether `finish_reason` is missing until the end, not null."""
    repeat_role: bool = False
    x_groq: bool = False
    native_finish: str = ""
    """Name of a second finish field, with the same value (null if it is `stop_reason`)."""
    padding: bytes = b""
    """Random-looking field against traffic analysis."""
    chunk_fields: Mapping[str, object] = field(default_factory=dict)
    stream_type: str = "text/event-stream; charset=utf-8"
    request_id_header: str = "x-request-id"
    headers: tuple[tuple[str, str], ...] = ()
    statuses: Mapping[str, int] = field(default_factory=dict)
    """Failures that have another status than usual."""
    error: ErrorShape = openai_error

    def finish_fields(self, reason: str) -> bytes:
        """Fields beside `finish_reason` in the finish chunk."""
        if not self.native_finish:
            return b""
        value = "null" if self.native_finish == "stop_reason" else f'"{reason}"'
        return f',"{self.native_finish}":{value}'.encode()


OPENAI = Dialect(
    "openai",
    chunk_fields={"service_tier": "default", "system_fingerprint": "fp_emulator"},
    padding=b',"obfuscation":"q7Zc"',
    headers=(
        ("openai-processing-ms", "12"),
        ("openai-version", "2020-10-01"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-tokens", "1999000"),
        ("x-ratelimit-reset-tokens", "20.402s"),
    ),
)

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        OPENAI,
        Dialect(
            "deepseek",
            id_prefix="",
            tool_id_prefix="call_00_",
            reasoning_field="reasoning_content",
            usage="finish",
            before_json=b"\n\n\n",
            chunk_fields={"system_fingerprint": "fp_emulator"},
            request_id_header="x-ds-trace-id",
            statuses={"quota": 402},
            error=deepseek_error,
        ),
        Dialect(
            "qwen",
            reasoning_field="reasoning_content",
            empty_ids_later=True,
            finish_absent=True,
            stream_type="text/event-stream;charset=UTF-8",
            error=qwen_error,
        ),
        Dialect(
            "mistral",
            id_prefix="",
            tool_id_prefix="",
            usage="finish",
            tools_whole=True,
            padding=b',"p":"abcdef"',
            request_id_header="mistral-correlation-id",
            statuses={"not_found": 400},
            error=mistral_error,
        ),
        Dialect(
            "groq",
            reasoning_field="reasoning",
            tools_whole=True,
            x_groq=True,
            error_event_name=True,
            chunk_fields={"system_fingerprint": "fp_emulator"},
        ),
        Dialect(
            "openrouter",
            id_prefix="gen-",
            reasoning_field="reasoning",
            usage="repeat-choice",
            keepalive=b": OPENROUTER PROCESSING\n\n",
            before_json=b"\n         \n",
            repeat_role=True,
            native_finish="native_finish_reason",
            done_after_error=True,
            chunk_fields={"provider": "Emulator"},
            request_id_header="x-generation-id",
            error=openrouter_error,
        ),
        Dialect(
            "vllm",
            tool_id_prefix="chatcmpl-tool-",
            reasoning_field="reasoning_content",
            native_finish="stop_reason",
            done_after_error=True,
            error=vllm_error,
        ),
        Dialect(
            "ollama",
            reasoning_field="reasoning",
            tools_whole=True,
            chunk_fields={"system_fingerprint": "fp_ollama"},
        ),
        Dialect(
            "xai",
            id_prefix="",
            reasoning_field="reasoning_content",
            finish_absent=True,
            statuses={"auth": 400},
            error=xai_error,
        ),
        Dialect("together", id_prefix="", reasoning_field="reasoning", usage="finish"),
        Dialect(
            "perplexity",
            id_prefix="",
            usage="every",
            done=False,
            crlf=True,
            error=perplexity_error,
        ),
        Dialect("zai", id_prefix="", reasoning_field="reasoning_content", usage="finish"),
        Dialect("llamacpp", reasoning_field="reasoning_content"),
        # No recordings of it: treated as plain OpenAI whose usage and [DONE] come as asked.
        Dialect("tokenmix"),
    )
}
