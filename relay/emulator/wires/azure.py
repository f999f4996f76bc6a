"""Azure OpenAI: OpenAI's interfaces, with content filters and errors of its own.

From recordings: a stream begins with a chunk without choices whose id is empty, each choice has
`content_filter_results`; errors have a code that is the status as text where the gateway says them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import orjson

from relay.emulator.answer import Answer, Asked, Json
from relay.emulator.wires.base import OPEN, Event, Failure, Headers
from relay.emulator.wires.dialects import Dialect, openai_error
from relay.emulator.wires.openai_chat import OpenAIChat
from relay.emulator.wires.responses import OpenAIResponses

_SAFE = {
    name: {"filtered": False, "severity": "safe"}
    for name in ("hate", "self_harm", "sexual", "violence")
}
_PROMPT = [{"prompt_index": 0, "content_filter_results": _SAFE}]
_PROMPT_CHUNK = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": _PROMPT,
}
_CHOICE = b'"choices":[{"index"'
_FILTERED_CHOICE = b'"choices":[{"content_filter_results":{},"index"'

_RATE = (
    "Requests to the ChatCompletions_Create Operation under Azure OpenAI API version 2024-10-21 "
    "have exceeded call rate limit of your current OpenAI S0 pricing tier. "
    "Please retry after 2 seconds."
)
_MISSING = (
    "The API deployment for this resource does not exist. If you created the deployment within the "
    "last 5 minutes, please wait a moment and try again."
)
_BAD_KEY = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a "
    "valid key for an active subscription and use a correct regional API endpoint for your "
    "resource."
)


def azure_error(status: int, failure: Failure) -> Json:
    """The gateway's short shape for what it refuses itself, OpenAI's for the rest."""
    match failure.kind:
        case "auth":
            return {"error": {"code": "401", "message": _BAD_KEY}}
        case "rate":
            return {"error": {"code": "429", "message": _RATE}}
        case "not_found":
            error = {"type": "invalid_request_error", "code": "DeploymentNotFound"}
            return {"error": {**error, "message": _MISSING}}
        case "server" | "gateway" | "timeout" | "unavailable" | "overloaded":
            return {"error": {"code": str(status), "message": failure.message}}
        case _:
            return openai_error(status, failure)


AZURE = Dialect(
    "azure",
    chunk_fields={"service_tier": "default", "system_fingerprint": "fp_emulator"},
    padding=b',"obfuscation":"q7Zc"',
    request_id_header="apim-request-id",
    headers=(
        ("x-ms-region", "Sweden Central"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999000"),
        ("azureml-model-session", "d0-emulator"),
    ),
    error=azure_error,
)

_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")


class AzureChat(OpenAIChat):
    """`POST .../chat/completions`; a deployment in the path is the model."""

    def __init__(self) -> None:
        super().__init__(AZURE)
        self.name = "azure_chat"

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        named = _DEPLOYMENT.search(path)
        if named is None:
            return super().ask(path, body, size_bytes)
        return super().ask(path, {**body, "model": named[1]}, size_bytes)

    def events(self, answer: Answer) -> Iterator[Event]:
        yield OPEN, b"data: " + orjson.dumps(_PROMPT_CHUNK) + b"\n\n", None
        for kind, before, after in super().events(answer):
            yield kind, before.replace(_CHOICE, _FILTERED_CHOICE, 1), after

    def body(self, answer: Answer) -> bytes:
        whole = orjson.loads(super().body(answer))
        for choice in whole["choices"]:
            choice["content_filter_results"] = _SAFE
        return orjson.dumps({**whole, "prompt_filter_results": _PROMPT})


class AzureResponses(OpenAIResponses):
    """`POST .../responses`; only errors and heads differ."""

    name = "azure_responses"

    def stream_head(self, answer: Answer) -> Headers:
        return [("content-type", "text/event-stream; charset=utf-8"), *_head(answer)]

    def json_head(self, answer: Answer | None) -> Headers:
        return [("content-type", "application/json"), *(_head(answer) if answer else [])]

    def error_status(self, failure: Failure) -> int:
        return failure.status

    def error_body(self, failure: Failure) -> bytes:
        return orjson.dumps(azure_error(failure.status, failure))


def _head(answer: Answer) -> Headers:
    return [("apim-request-id", f"req_{answer.id}"), *AZURE.headers]
