"""Errors as `google.rpc.Status` with `ErrorInfo`, `BadRequest` and `RetryInfo`.

In a frame a status is whole. As the end of an RPC it travels in HTTP/2 trailers, of which clients
take 8 KiB: its text there is percent-encoded (three bytes a byte), its details are base64. An error
that does not fit is cut, and never lost with its status.
"""

from __future__ import annotations

import math

from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from relay.errors import RelayError

DOMAIN = "rtrelay"

MAX_DETAILS_BYTES = 500
"""Of UTF-8, of the text of an RPC's status: 1,500 in the trailers."""
MAX_STATUS_BYTES = 4_000
"""Of the status in the trailers: 5,400 in base64."""
MAX_FACT_BYTES = 300
"""Of each value of the metadata, in a status that is cut; there are at most seven."""
_HEADS_BYTES = 16
"""What a message in a status costs beside itself."""
_CUT = "..."


def to_status(error: RelayError) -> status_pb2.Status:
    """The error as clients get it in an `End` or a `Notice`."""
    return _status(error, error.public_message, error.metadata)


def to_trailers(error: RelayError) -> tuple[str, bytes]:
    """The error as the end of an RPC: its text, and its status for `grpc-status-details-bin`, both
    cut to what clients take."""
    message = error.public_message
    status = _status(error, message, error.metadata)
    if status.ByteSize() > MAX_STATUS_BYTES:
        facts = {name: cut(value, MAX_FACT_BYTES) for name, value in error.metadata.items()}
        room = MAX_STATUS_BYTES - _HEADS_BYTES - _status(error, "", facts).ByteSize()
        times = 2 if "field" in facts else 1  # a message that names a field is there twice
        status = _status(error, cut(message, max(0, room // times)), facts)
    data: bytes = status.SerializeToString()
    return cut(message, MAX_DETAILS_BYTES), data


def cut(text: str, max_bytes: int) -> str:
    """As much of a text as fits, in whole characters; what is cut ends in `...`."""
    data = text.encode()
    if len(data) <= max_bytes:
        return text
    return data[: max(0, max_bytes - len(_CUT))].decode(errors="ignore") + _CUT[:max_bytes]


def _status(error: RelayError, message: str, facts: dict[str, str]) -> status_pb2.Status:
    details = [
        _pack(error_details_pb2.ErrorInfo(reason=error.reason.name, domain=DOMAIN, metadata=facts))
    ]
    field = facts.get("field")
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(error.retry_after_s * 1000))  # not a moment too early
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=int(error.status_code), message=message, details=details)


def _pack(value: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(value)
    return packed
