"""A collector of OpenTelemetry's, as far as OTLP over HTTP goes, on a real socket in threads of its
own; it can be slow, refuse, or answer nothing at all.

    with OtlpCollector() as collector:
        ...
        spans = collector.spans()
"""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass
class SeenSpan:
    """A span as it came."""

    raw: Span
    resource: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.raw.name)

    @property
    def attributes(self) -> dict[str, Any]:
        return {one.key: value_of(one.value) for one in self.raw.attributes}


def value_of(value: Any) -> Any:
    """Of an attribute."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(item) for item in value.array_value.values]
    return getattr(value, kind)


@dataclass
class Batch:
    """One request."""

    headers: dict[str, str]
    body: bytes
    request: ExportTraceServiceRequest = field(default_factory=ExportTraceServiceRequest)


class OtlpCollector:
    """See the module.

    Attributes:
        status: of the answers from now on.
        rejects: spans that it says it has thrown away.
    """

    def __init__(self, *, is_hung: bool = False) -> None:
        self.status = 200
        self.rejects = 0
        self.batches: list[Batch] = []
        self.refused = 0
        self._is_open = threading.Event()
        if not is_hung:
            self._is_open.set()
        self._arrived = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                collector._take(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        self._arrived.set()
        self._is_open.wait(30)
        batch = Batch({k.lower(): v for k, v in handler.headers.items()}, body)
        if batch.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        batch.request.ParseFromString(body)
        answer = ExportTraceServiceResponse()
        if self.rejects:
            answer.partial_success.rejected_spans = self.rejects
        said = answer.SerializeToString()
        if self.status == 200:
            self.batches.append(batch)
        else:
            self.refused += 1
        try:
            handler.send_response(self.status)
            handler.send_header("content-type", "application/x-protobuf")
            handler.send_header("content-length", str(len(said)))
            handler.end_headers()
            handler.wfile.write(said)
        except OSError:
            pass  # whoever asked has given up

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    @property
    def endpoint(self) -> str:
        """Where it takes spans."""
        return f"http://127.0.0.1:{self._server.server_port}/v1/traces"

    def release(self) -> None:
        """It hangs no longer."""
        self._is_open.set()

    def hangs(self) -> bool:
        """Whether somebody waits, or has waited, for an answer."""
        return self._arrived.is_set()

    def spans(self) -> list[SeenSpan]:
        """All that were taken, in the order they came."""
        found = []
        for batch in list(self.batches):
            for of_process in batch.request.resource_spans:
                resource = {o.key: value_of(o.value) for o in of_process.resource.attributes}
                for of_scope in of_process.scope_spans:
                    found += [SeenSpan(span, resource) for span in of_scope.spans]
        return found


def wait_until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    """For what another thread does.

    Raises:
        TimeoutError: it did not.
    """
    ends_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > ends_s:
            raise TimeoutError("it did not happen")
        time.sleep(0.002)
