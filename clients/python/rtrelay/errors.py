"""What the client raises: one class, whose `reason` and `code` tell what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

if TYPE_CHECKING:
    from rtrelay.v1 import End

STREAM_LOST = "STREAM_LOST"
"""Reason of our own: the stream broke, and the relay could not tell how the generation ended."""

_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class RelayError(Exception):
    """A generation failed, or no session with a relay could be had."""

    def __init__(
        self,
        reason: str,
        code: grpc.StatusCode,
        message: str,
        *,
        retry_after_s: float | None = None,
        details: Mapping[str, str] | None = None,
        end: End | None = None,
    ) -> None:
        super().__init__(f"{reason or code.name}: {message}")
        self.reason = reason
        """Name of an `ErrorReason` without its prefix, `STREAM_LOST`, or empty if the relay did not
        say."""
        self.code = code
        """To switch on; new reasons may come at any time."""
        self.message = message
        """For people and logs."""
        self.retry_after_s = retry_after_s
        """Seconds after which another try may work; None if it is not known."""
        self.details: Mapping[str, str] = details or {}
        """Small facts: `field`, `provider`, `upstream_status`, ... (`ErrorInfo.metadata`)."""
        self.end = end
        """The end of the generation with its usage and attempts; None if there was none."""

    @property
    def is_retryable(self) -> bool:
        """The same start may work at another try."""
        return self.code == grpc.StatusCode.UNAVAILABLE or self.retry_after_s is not None


def from_status(status: status_pb2.Status, end: End | None = None) -> RelayError:
    """The error that a `google.rpc.Status` tells of; unknown details are passed over."""
    reason, metadata, retry_after_s = "", {}, None
    for packed in status.details:
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        try:
            if packed.Unpack(info):
                reason, metadata = info.reason, dict(info.metadata)
            elif packed.Unpack(retry):
                retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        except DecodeError:
            continue
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return RelayError(
        reason, code, status.message, retry_after_s=retry_after_s, details=metadata, end=end
    )


def to_status(error: RelayError) -> status_pb2.Status:
    """The other way, for an end that is made here."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain="rtrelay", metadata=dict(error.details)
    )
    status.details.add().Pack(info)
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
        status.details.add().Pack(retry)
    return status


def from_rpc(error: grpc.aio.AioRpcError) -> RelayError:
    """The error that a failed RPC tells of, by its trailers where the relay sent any."""
    trailers: dict[str, Any] = dict(error.trailing_metadata() or ())
    data = trailers.get("grpc-status-details-bin")
    if isinstance(data, bytes):
        try:
            return from_status(status_pb2.Status.FromString(data))
        except DecodeError:
            pass  # not the relay's; what gRPC itself knows is left
    return RelayError("", error.code(), error.details() or "")


def stream_lost(cause: RelayError) -> RelayError:
    """A generation went down with its stream; `cause` says how that broke."""
    error = RelayError(STREAM_LOST, grpc.StatusCode.UNAVAILABLE, cause.message)
    error.__cause__ = cause
    return error
