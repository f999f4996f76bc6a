"""Spans as OpenTelemetry's protobuf messages (OTLP 1, `opentelemetry.proto.trace.v1`).

Messages are filled in place: made one by one and put into each other they cost three times as much.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import SpanFlags, Status

from relay import __version__
from relay.observability.tracing.shapes import Attributes, Shape
from relay.trace_context import GenerationTrace

_HAS_REMOTE = SpanFlags.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_IS_REMOTE = SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_SAMPLED = 1


class Batch:
    """What is sent at once: the spans of some generations, of one process.

    Args:
        resource: what the process is; attributes by name.
    """

    def __init__(self, resource: Mapping[str, str]) -> None:
        self._message = ExportTraceServiceRequest()
        of_process = self._message.resource_spans.add()
        _put(of_process.resource.attributes, resource)
        self._scope = of_process.scope_spans.add()
        self._scope.scope.name = "rtrelay"
        self._scope.scope.version = __version__
        self.generations = 0

    def add(self, trace: GenerationTrace, tracestate: str, shapes: Iterable[Shape]) -> None:
        """The spans of one generation."""
        self.generations += 1
        trace_id = bytes.fromhex(trace.trace_id)
        for shape in shapes:
            span = self._scope.spans.add(
                trace_id=trace_id,
                span_id=bytes.fromhex(shape.span_id),
                parent_span_id=bytes.fromhex(shape.parent_id),
                trace_state=tracestate,
                name=shape.name,
                kind=int(shape.kind),
                start_time_unix_nano=shape.start_ns,
                end_time_unix_nano=shape.end_ns,
                flags=_HAS_REMOTE | _SAMPLED | (_IS_REMOTE if shape.is_parent_remote else 0),
            )
            _put(span.attributes, shape.attributes)
            for mark in shape.events:
                event = span.events.add(name=mark.name, time_unix_nano=mark.at_ns)
                _put(event.attributes, mark.attributes)
            for link in shape.links:
                told = span.links.add(
                    trace_id=trace_id,
                    span_id=bytes.fromhex(link.span_id),
                    flags=_HAS_REMOTE | _SAMPLED,
                )
                _put(told.attributes, link.attributes)
            if shape.fault is not None:
                span.status.code = Status.STATUS_CODE_ERROR
                span.status.message = shape.fault

    @property
    def spans(self) -> int:
        """How many there are."""
        return len(self._scope.spans)

    def encoded(self) -> bytes:
        """The body of the request."""
        return self._message.SerializeToString()


def rejected_of(body: bytes) -> tuple[int, str]:
    """How many spans the collector has thrown away though it took the request, and its words.

    Raises:
        google.protobuf.message.DecodeError: it is no such answer.
    """
    answer = ExportTraceServiceResponse.FromString(body)
    return answer.partial_success.rejected_spans, answer.partial_success.error_message


def _put(attributes: Any, values: Mapping[str, Any] | Attributes) -> None:
    add = attributes.add
    for name, value in values.items():
        told = add(key=name).value
        if isinstance(value, str):
            told.string_value = value
        elif isinstance(value, bool):
            told.bool_value = value
        elif isinstance(value, int):
            told.int_value = value
        elif isinstance(value, float):
            told.double_value = value
        else:
            items = told.array_value.values
            for item in value:
                items.add(string_value=item)
