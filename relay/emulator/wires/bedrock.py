"""What both of Bedrock's own interfaces share: errors by name, and the heads around a stream.

Names and statuses are those of botocore's model of the service (`bedrock-runtime`, 2023-09-30).
"""

from __future__ import annotations

import orjson

from relay.emulator import event_stream
from relay.emulator.answer import Answer
from relay.emulator.wires.base import Failure, Headers

_NAMES: dict[str, tuple[int, str]] = {
    "bad_request": (400, "ValidationException"),
    "context": (400, "ValidationException"),
    "auth": (403, "UnrecognizedClientException"),
    "billing": (403, "AccessDeniedException"),
    "permission": (403, "AccessDeniedException"),
    "not_found": (404, "ResourceNotFoundException"),
    "request_timeout": (408, "ModelTimeoutException"),
    "conflict": (400, "ConflictException"),
    "too_large": (400, "ValidationException"),
    "unprocessable": (400, "ValidationException"),
    "rate": (429, "ThrottlingException"),
    "quota": (400, "ServiceQuotaExceededException"),
    "server": (500, "InternalServerException"),
    "gateway": (424, "ModelErrorException"),
    "unavailable": (503, "ServiceUnavailableException"),
    "timeout": (408, "ModelTimeoutException"),
    "overloaded": (429, "ModelNotReadyException"),
}
_MESSAGES = {
    "context": "Input is too long for requested model.",
    "rate": "Too many requests, please wait before trying again.",
    "permission": "You don't have access to the model with the specified model ID.",
    "not_found": "Could not resolve the foundation model from the provided model identifier.",
}
_IN_STREAM = {
    "rate": "throttlingException",
    "quota": "throttlingException",
    "unavailable": "serviceUnavailableException",
    "overloaded": "serviceUnavailableException",
    "server": "internalServerException",
    "gateway": "modelStreamErrorException",
    "timeout": "modelStreamErrorException",
    "request_timeout": "modelStreamErrorException",
}


class BedrockErrors:
    """The half of a `Wire` that tells of failures."""

    def stream_head(self, answer: Answer) -> Headers:
        return [("content-type", event_stream.CONTENT_TYPE), *_common(answer)]

    def json_head(self, answer: Answer | None) -> Headers:
        return [("content-type", "application/json"), *(_common(answer) if answer else [])]

    def keepalive(self) -> bytes:
        return b""  # there is none

    def error_status(self, failure: Failure) -> int:
        return _NAMES.get(failure.kind, (failure.status, ""))[0]

    def error_head(self, failure: Failure) -> Headers:
        """Headers of an error: its name is in one of them."""
        name = _NAMES.get(failure.kind, (0, "InternalServerException"))[1]
        url = "http://internal.amazon.com/coral/com.amazon.bedrock/"
        return [
            ("content-type", "application/json"),
            ("x-amzn-requestid", "emulator"),
            ("x-amzn-errortype", f"{name}:{url}"),
        ]

    def error_body(self, failure: Failure) -> bytes:
        return orjson.dumps({"message": _MESSAGES.get(failure.kind, failure.message)})

    def error_event(self, failure: Failure) -> bytes:
        message = _MESSAGES.get(failure.kind, failure.message)
        if failure.kind == "auth":
            # Not of the model: what a gateway in between would say.
            return event_stream.error("InternalFailure", message)
        return event_stream.exception(_IN_STREAM.get(failure.kind, "validationException"), message)


def _common(answer: Answer) -> Headers:
    return [("x-amzn-requestid", f"req-{answer.id}")]


def padding(number: int) -> str:
    """Against guessing tokens by the lengths of frames, as the service does; repeatable."""
    return "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"[: 4 + number * 7 % 23]


def model_of(path: str) -> str:
    """The model's id in a decoded path: all between `/model/` and the last part."""
    return path.partition("?")[0].partition("/model/")[2].rpartition("/")[0]
