"""Errors as `google.rpc.Status` with `ErrorInfo`, `BadRequest` and `RetryInfo`."""

from __future__ import annotations

from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import error_details_pb2, status_pb2

from relay.errors import RelayError

DOMAIN = "rtrelay"


def to_status(error: RelayError) -> status_pb2.Status:
    """The error as clients get it: in an `End`, a `Notice`, or as the status of an RPC."""
    details = [
        _pack(
            error_details_pb2.ErrorInfo(
                reason=error.reason.name, domain=DOMAIN, metadata=error.metadata
            )
        )
    ]
    field = error.metadata.get("field")
    if field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=field, description=error.public_message
        )
        details.append(_pack(error_details_pb2.BadRequest(field_violations=[violation])))
    if error.retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(
        code=int(error.status_code), message=error.public_message, details=details
    )


def _pack(value: message.Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(value)
    return packed
