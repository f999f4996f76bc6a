"""Vertex: Gemini with its traffic type, and Claude by raw predictions.

Claude's body names no model, keeps `stream`, and has to have `anthropic_version`. Which of Claude's
errors come in Google's shape is not documented; those that the platform says itself do here
(limits, models that are not there, permissions), the model's own are Anthropic's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import orjson

from relay.emulator.answer import Answer, Asked
from relay.emulator.wires.anthropic import AnthropicMessages
from relay.emulator.wires.base import BadRequest, Event, Failure, as_list, as_object
from relay.emulator.wires.gemini import Gemini

_PLATFORM: dict[str, tuple[str, str]] = {
    "rate": ("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
    "quota": (
        "RESOURCE_EXHAUSTED",
        "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model.",
    ),
    "not_found": ("NOT_FOUND", "Publisher Model was not found."),
    "permission": ("PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied."),
    "auth": ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
}
_TRAFFIC = b'"usageMetadata": {"trafficType": "ON_DEMAND",'


class VertexGemini(Gemini):
    """`.../publishers/google/models/M:{generate,streamGenerate}Content`."""

    name = "vertex_gemini"

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        for turn in as_list(body.get("contents"), "contents"):
            if as_object(turn, "contents").get("role") not in ("user", "model", "function"):
                raise BadRequest("Please use a valid role: user, model.")
        return super().ask(path, body, size_bytes)

    def events(self, answer: Answer) -> Iterator[Event]:
        for kind, before, after in super().events(answer):
            yield kind, _with_traffic(before), None if after is None else _with_traffic(after)

    def body(self, answer: Answer) -> bytes:
        return _with_traffic(super().body(answer))

    def error_status(self, failure: Failure) -> int:
        return 401 if failure.kind == "auth" else super().error_status(failure)


class VertexClaude(AnthropicMessages):
    """`.../publishers/anthropic/models/M:{rawPredict,streamRawPredict}`."""

    name = "vertex_claude"

    def ask(self, path: str, body: Mapping[str, object], size_bytes: int) -> Asked:
        model, _, method = path.partition("?")[0].rpartition("/models/")[2].rpartition(":")
        if method not in ("rawPredict", "streamRawPredict") or not model:
            raise BadRequest(f"unknown method {method}")
        if not isinstance(body.get("anthropic_version"), str):
            raise BadRequest("anthropic_version: Field required")
        if model == "count-tokens":
            return super().ask(path, {**body, "max_tokens": 1}, size_bytes)
        if "model" in body:
            raise BadRequest("model: Extra inputs are not permitted")
        return super().ask(path, {**body, "model": model}, size_bytes)

    def error_body(self, failure: Failure) -> bytes:
        platform = _PLATFORM.get(failure.kind)
        if platform is None:
            return super().error_body(failure)
        status, message = platform
        error = {"code": self.error_status(failure), "message": message, "status": status}
        return orjson.dumps({"error": error})


class VertexCount(VertexClaude):
    """`.../models/count-tokens:rawPredict`."""

    name = "vertex_count"

    def body(self, answer: Answer) -> bytes:
        return orjson.dumps({"input_tokens": answer.usage.prompt})


def _with_traffic(data: bytes) -> bytes:
    return data.replace(b'"usageMetadata": {', _TRAFFIC, 1)
