"""One OTLP/HTTP collector: takes a batch, or says why not. Blocks, so it is used in a thread.

https://opentelemetry.io/docs/specs/otlp/ "OTLP/HTTP": a body of protobuf by POST; 429, 502, 503 and
504 may be tried again, any other failure may not, and what was partly taken is not sent again.
"""

from __future__ import annotations

import enum
import gzip
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

import httpx2
from google.protobuf.message import DecodeError

from relay.observability.tracing.encoding import rejected_of
from relay.pinned_http import PinnedSyncTransport

_TRY_AGAIN: Final = frozenset({429, 502, 503, 504})
_MAX_ANSWER_BYTES: Final = 64 * 1024


class Verdict(enum.Enum):
    """What became of a batch."""

    TAKEN = "taken"
    LATER = "later"
    """Nobody is there, or has room: it may be tried again."""
    REFUSED = "refused"
    """It will not be taken, however often it is sent."""


class Sent(NamedTuple):
    """How sending went."""

    verdict: Verdict
    why: str = ""
    """For the log: a status or the name of an exception, no address and no header."""
    rejected: int = 0
    """Spans that the collector has thrown away of a batch that it took."""


class Sender(Protocol):
    """Where batches go."""

    def send(self, body: bytes) -> Sent:
        """Never raises; bounded in time by each side's silence."""
        ...

    def close(self) -> None:
        """Let connections go."""
        ...


class Collector:
    """A `Sender`; one thread uses it.

    Args:
        headers: may hold secrets; sent with every batch.
        timeout_s: for the connection, and of silence.
        ca_file: PEM file of the only trusted roots; None for those that the machine trusts.
        private: networks that its name may lead to: see `relay.addresses.may_connect`.
    """

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        *,
        timeout_s: float,
        ca_file: str | None,
        private: Sequence[str] | None = None,
        is_compressed: bool,
    ) -> None:
        self._endpoint = endpoint
        self._is_compressed = is_compressed
        self._timeout_s = timeout_s
        given = {**headers, "content-type": "application/x-protobuf"}
        if is_compressed:
            given["content-encoding"] = "gzip"
        self._client = httpx2.Client(
            headers=given,
            timeout=timeout_s,
            transport=PinnedSyncTransport(
                httpx2.HTTPTransport(
                    verify=ssl.create_default_context(cafile=ca_file), trust_env=False
                ),
                private,
            ),
            trust_env=False,  # a proxy of the environment is the providers', and .netrc nobody's
            follow_redirects=False,
        )

    def send(self, body: bytes) -> Sent:
        """See `Sender`."""
        if self._is_compressed:
            body = gzip.compress(body, 1)
        over_s = time.monotonic() + self._timeout_s
        try:
            with self._client.stream("POST", self._endpoint, content=body) as answer:
                said = b""
                for piece in answer.iter_raw():
                    said += piece
                    if len(said) > _MAX_ANSWER_BYTES or time.monotonic() > over_s:
                        break
        except httpx2.HTTPError as error:
            return Sent(Verdict.LATER, type(error).__name__)
        if answer.status_code in _TRY_AGAIN:
            return Sent(Verdict.LATER, f"HTTP {answer.status_code}")
        if answer.status_code >= 300:
            return Sent(Verdict.REFUSED, f"HTTP {answer.status_code}")
        try:
            rejected, _ = rejected_of(said) if answer.status_code == 200 else (0, "")
        except DecodeError:  # JSON from some, or nothing that we know: it has been taken
            rejected = 0
        return Sent(Verdict.TAKEN, rejected=rejected)

    def close(self) -> None:
        """See `Sender`."""
        self._client.close()
