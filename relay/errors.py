"""The errors of the relay: one tree, three questions answered by each.

    RelayError                  code, reason, source, retry, public_message
    |- DownstreamError          the client's request is at fault
    |  |- InvalidRequest, UnknownModel, UnsupportedFeature, RequestTooLarge, NotImplementedYet
    |  |- Unauthenticated, PermissionDenied, SlowConsumer, GuardrailBlocked, CacheMiss
    |  '- ClientCancelled       not a fault: the client asked us to stop
    |- AdmissionError           we declined; nothing was sent upstream
    |  '- PoolExhausted, Draining, Overloaded, NoCandidates
    |- DeadlineExceeded         the generation's own budget, whichever layer noticed
    |- UpstreamError            the provider, or the way to it
    |  |- ConnectError, TlsFailed, ConnectTimeout
    |  |- CredentialUnavailable nothing to show it now; nothing was sent
    |  |- StreamRefused, StreamReset
    |  |- FirstTokenTimeout, StreamStalled, AttemptTimeout
    |  |- UpstreamStatus        the provider answered with an error (see `reason`)
    |  |- RemoteProtocolError   bytes that break the format; NotAnAnswer, StreamTruncated,
    |  |                        EventTooLarge
    |  '- AllAttemptsFailed     every attempt failed; the causes are in `attempts`
    '- InternalError            a bug in the relay; LocalProtocolError, OutsideZones

`code` says what the client should make of it (numbers of `google.rpc.Code`), `reason` says
exactly what happened (the names of `rtrelay.v1.ErrorReason`), `retry` says whether another
attempt is safe. `public_message` is the only text that leaves the process: it never holds a
key, a prompt or an upstream host. Frontends map `code` to gRPC and HTTP; nothing else does.

`asyncio.CancelledError` is outside this tree and always goes on.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import ClassVar


class Code(enum.IntEnum):
    """What the client should make of an error; the numbers of `google.rpc.Code`."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Reason(enum.IntEnum):
    """What exactly happened. Names and numbers are those of `rtrelay.v1.ErrorReason`.

    A test holds the two together; add here and in `errors.proto` in one commit.
    """

    # the request
    INVALID_REQUEST = 1
    SETUP_REQUIRED = 2
    UNKNOWN_MODEL = 3
    UNSUPPORTED_FEATURE = 4
    UNAUTHENTICATED = 5
    PERMISSION_DENIED = 6
    REQUEST_TOO_LARGE = 7
    DUPLICATE_GENERATION = 8
    TOO_MANY_GENERATIONS = 9
    NOT_IMPLEMENTED = 10
    SLOW_CONSUMER = 11
    CLIENT_CANCELLED = 12
    SESSION_IDLE = 13
    # admission
    DRAINING = 20
    NO_CANDIDATES = 21
    POOL_EXHAUSTED = 22
    BREAKER_OPEN = 23
    LIMIT_EXCEEDED = 24
    BUDGET_EXCEEDED = 25
    LEDGER_UNAVAILABLE = 26
    GUARDRAIL_BLOCKED = 27
    CACHE_MISS = 28
    OVERLOADED = 29
    # time
    DEADLINE_EXCEEDED = 40
    CONNECT_TIMEOUT = 41
    FIRST_TOKEN_TIMEOUT = 42
    STREAM_STALLED = 43
    ATTEMPT_TIMEOUT = 44
    FIRST_SEGMENT_TIMEOUT = 45
    # the provider, or the way to it
    ALL_ATTEMPTS_FAILED = 60
    UPSTREAM_UNREACHABLE = 61
    UPSTREAM_TLS = 62
    UPSTREAM_REFUSED_STREAM = 63
    UPSTREAM_RESET = 64
    UPSTREAM_TRUNCATED = 65
    UPSTREAM_PROTOCOL = 66
    UPSTREAM_EVENT_TOO_LARGE = 67
    UPSTREAM_REDIRECT = 68
    UPSTREAM_RATE_LIMITED = 69
    UPSTREAM_QUOTA_EXHAUSTED = 70
    UPSTREAM_OVERLOADED = 71
    UPSTREAM_FAILED = 72
    UPSTREAM_REJECTED = 73
    UPSTREAM_MODEL_NOT_FOUND = 74
    UPSTREAM_PERMISSION_DENIED = 75
    UPSTREAM_CONTENT_BLOCKED = 76
    UPSTREAM_MISCONFIGURED = 77
    # us
    INTERNAL = 90


class Source(enum.Enum):
    """Whose doing an error is."""

    DOWNSTREAM = "downstream"
    UPSTREAM = "upstream"
    INTERNAL = "internal"


class Retry(enum.Enum):
    """Whether another attempt is safe after this error."""

    SAFE = "safe"
    """Nothing reached the model."""
    IF_REUSED = "if_reused"
    """A stale pooled connection, or a credential that is another one by now: one immediate try is
    free."""
    BEFORE_COMMIT = "before_commit"
    """Sent, but the client has seen nothing yet."""
    NO = "no"
    """The answer would be the same, or the client has seen output."""


class CancelReason(enum.IntEnum):
    """Why a generation was cancelled; the numbers of `rtrelay.v1.CancelReason`."""

    UNSPECIFIED = 0
    BARGE_IN = 1
    SUPERSEDED = 2
    SPECULATION_DISCARDED = 3
    SESSION_END = 4
    CLIENT_TIMEOUT = 5


MAX_SHOWN_CHARS = 200
"""Of a caller's own words in a message: gRPC trailers have a limit, and so has a log line."""


def shown(words: str) -> str:
    """A caller's own words, as far as a message quotes them."""
    return words if len(words) <= MAX_SHOWN_CHARS else f"{words[:MAX_SHOWN_CHARS]}..."


class RelayError(Exception):
    """Base of every error the relay reports.

    Args:
        message: public text; names the field or phase at fault, no secrets.
        retry_after_s: the provider's or our hint when to try again, seconds.
        metadata: small string facts for `ErrorInfo.metadata` (provider, upstream_status, ...).
    """

    code: ClassVar[Code] = Code.INTERNAL
    reason: Reason = Reason.INTERNAL
    source: ClassVar[Source] = Source.INTERNAL
    retry: Retry = Retry.NO

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.public_message = message
        self.retry_after_s = retry_after_s
        self.metadata: dict[str, str] = metadata or {}

    @property
    def status_code(self) -> Code:
        """`code` of this very error (an `UpstreamStatus` derives it from its reason)."""
        return self.code


# --- downstream -----------------------------------------------------------------------------


class DownstreamError(RelayError):
    """The client's request, or the client itself, is at fault."""

    code = Code.INVALID_ARGUMENT
    reason = Reason.INVALID_REQUEST
    source = Source.DOWNSTREAM


class InvalidRequest(DownstreamError):
    """A field is missing or wrong.

    Args:
        field: path of the field at fault, like `messages[2].content[0].type`; empty if none.
    """

    def __init__(
        self, message: str, *, field: str = "", reason: Reason = Reason.INVALID_REQUEST
    ) -> None:
        super().__init__(message, metadata={"field": field} if field else None)
        self.field = field
        self.reason = reason


class UnknownModel(DownstreamError):
    """No alias, provider or listed model has this name; `nearest` holds close names, and where
    there are none, `providers` some before whose models their names are put."""

    code = Code.NOT_FOUND
    reason = Reason.UNKNOWN_MODEL

    def __init__(
        self, model: str, nearest: Sequence[str] = (), providers: Sequence[str] = ()
    ) -> None:
        hint = ""
        if nearest:
            hint = f"; nearest: {', '.join(nearest)}"
        elif providers:
            ways = " or ".join(f"{provider}/MODEL" for provider in providers)
            hint = f"; a provider's model is asked for as {ways}"
        super().__init__(f"unknown model {shown(model)!r}{hint}", metadata={"field": "model"})
        self.nearest = tuple(nearest)


class UnsupportedFeature(DownstreamError):
    """The target's wire cannot express a field of the request; named, never dropped silently."""

    reason = Reason.UNSUPPORTED_FEATURE

    def __init__(self, feature: str, where: str) -> None:
        feature = shown(feature)  # it may quote the request
        super().__init__(f"{feature} is not supported by {where}", metadata={"feature": feature})
        self.feature = feature


class RequestTooLarge(DownstreamError):
    """The request is over a size limit of ours."""

    code = Code.RESOURCE_EXHAUSTED
    reason = Reason.REQUEST_TOO_LARGE


class NotImplementedYet(DownstreamError):
    """Part of the contract, not of this version."""

    code = Code.UNIMPLEMENTED
    reason = Reason.NOT_IMPLEMENTED


class Unauthenticated(DownstreamError):
    """No key, or one we do not know."""

    code = Code.UNAUTHENTICATED
    reason = Reason.UNAUTHENTICATED


class PermissionDenied(DownstreamError):
    """Known or not, whoever asks may not have this."""

    code = Code.PERMISSION_DENIED
    reason = Reason.PERMISSION_DENIED


class GuardrailBlocked(DownstreamError):
    """A guardrail of the operator refuses what is asked, or the answer before any of it was sent.

    Args:
        message: for the caller; the operator's words, or what the guardrail is called, and never
            what was found.
        guardrail: its name.
        side: `input` or `output`.
    """

    code = Code.FAILED_PRECONDITION
    reason = Reason.GUARDRAIL_BLOCKED

    def __init__(self, message: str, *, guardrail: str, side: str) -> None:
        super().__init__(message, metadata={"guardrail": guardrail, "side": side})
        self.guardrail = guardrail
        self.side = side


class CacheMiss(DownstreamError):
    """The request wants nothing but a kept answer, and there is none."""

    code = Code.NOT_FOUND
    reason = Reason.CACHE_MISS


class DuplicateGeneration(DownstreamError):
    """A generation id was used before on this session."""

    code = Code.ALREADY_EXISTS
    reason = Reason.DUPLICATE_GENERATION


class TooManyGenerations(DownstreamError):
    """More live generations on one session than allowed."""

    code = Code.RESOURCE_EXHAUSTED
    reason = Reason.TOO_MANY_GENERATIONS


class SlowConsumer(DownstreamError):
    """The client stopped reading for too long while output was waiting."""

    code = Code.RESOURCE_EXHAUSTED
    reason = Reason.SLOW_CONSUMER


class SessionIdle(DownstreamError):
    """A session had no frame and no generation for longer than the operator allows."""

    code = Code.UNAVAILABLE
    reason = Reason.SESSION_IDLE


class ClientCancelled(DownstreamError):
    """The client cancelled the generation, or went away."""

    code = Code.CANCELLED
    reason = Reason.CLIENT_CANCELLED

    def __init__(self, message: str, why: CancelReason = CancelReason.UNSPECIFIED) -> None:
        super().__init__(message)
        self.why = why


# --- admission ------------------------------------------------------------------------------


class AdmissionError(RelayError):
    """We declined; nothing was sent upstream."""

    code = Code.UNAVAILABLE
    reason = Reason.NO_CANDIDATES
    retry = Retry.SAFE


class Draining(AdmissionError):
    """This worker is shutting down; another one will serve the request."""

    reason = Reason.DRAINING


class Overloaded(AdmissionError):
    """This worker has more to do than it can; `retry_after_s` says when to come again."""

    reason = Reason.OVERLOADED


class NoCandidates(AdmissionError):
    """No endpoint may serve this request now."""

    reason = Reason.NO_CANDIDATES


class TargetLimited(AdmissionError):
    """The operator's own `rpm` or `tpm` of a target is used up; `retry_after_s` says how long."""

    code = Code.RESOURCE_EXHAUSTED
    reason = Reason.LIMIT_EXCEEDED


class LimitReached(AdmissionError):
    """A limit of the caller's key, team or organisation, or of the model, is used up;
    `retry_after_s` says when there is room again; None: there will not be, for so much at once.

    Args:
        rate_state: where the caller stands (`relay.governance.ledger.RateState`), for headers.
    """

    code = Code.RESOURCE_EXHAUSTED
    reason = Reason.LIMIT_EXCEEDED
    retry = Retry.NO

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        metadata: dict[str, str] | None = None,
        rate_state: object = None,
    ) -> None:
        super().__init__(message, retry_after_s=retry_after_s, metadata=metadata)
        self.rate_state = rate_state

    @property
    def is_worth_another_try(self) -> bool:
        """Whether the same request may go through later."""
        return self.retry_after_s is not None


class BudgetExceeded(AdmissionError):
    """A hard budget has less left than the request may cost, or the request has no price."""

    code = Code.RESOURCE_EXHAUSTED
    reason = Reason.BUDGET_EXCEEDED
    retry = Retry.NO


class StoreDown(AdmissionError):
    """Who asks, or what may be spent, cannot be looked up or written down now; no fault of the
    caller's, and nothing that a new key would change."""

    reason = Reason.LEDGER_UNAVAILABLE
    retry = Retry.NO


class BreakerOpen(AdmissionError):
    """The target has failed too often lately; `retry_after_s` says when it is tried again."""

    reason = Reason.BREAKER_OPEN


class PoolExhausted(AdmissionError):
    """No stream slot to the origin became free in time."""

    reason = Reason.POOL_EXHAUSTED


# --- time -----------------------------------------------------------------------------------


class DeadlineExceeded(RelayError):
    """A budget of the generation itself ran out, whichever layer noticed."""

    code = Code.DEADLINE_EXCEEDED
    reason = Reason.DEADLINE_EXCEEDED
    source = Source.DOWNSTREAM

    def __init__(self, message: str, *, reason: Reason = Reason.DEADLINE_EXCEEDED) -> None:
        super().__init__(message)
        self.reason = reason


# --- upstream -------------------------------------------------------------------------------


class UpstreamError(RelayError):
    """The provider, or the way to it."""

    code = Code.UNAVAILABLE
    reason = Reason.UPSTREAM_FAILED
    source = Source.UPSTREAM
    retry = Retry.BEFORE_COMMIT


class ConnectError(UpstreamError):
    """Refused, unreachable, name not resolved."""

    reason = Reason.UPSTREAM_UNREACHABLE
    retry = Retry.SAFE


class CredentialUnavailable(UpstreamError):
    """We have nothing to show the provider now: a token that could not be fetched, a key refused.

    `retry_after_s` says when it is tried again."""

    reason = Reason.UPSTREAM_MISCONFIGURED
    retry = Retry.SAFE


class TlsFailed(ConnectError):
    """The TLS handshake failed: certificate, name or version."""

    reason = Reason.UPSTREAM_TLS


class ConnectTimeout(ConnectError):
    """No usable connection within `connect_ms`."""

    reason = Reason.CONNECT_TIMEOUT


class StreamRefused(UpstreamError):
    """REFUSED_STREAM, or GOAWAY below our stream: the provider did not process the request."""

    reason = Reason.UPSTREAM_REFUSED_STREAM
    retry = Retry.SAFE


class StreamReset(UpstreamError):
    """The stream or its connection broke before its end.

    Args:
        headers_received: whether response headers had come.
        reused: whether the connection had served before (then one retry is free).
    """

    reason = Reason.UPSTREAM_RESET

    def __init__(
        self, message: str, *, headers_received: bool = False, reused: bool = False
    ) -> None:
        super().__init__(message)
        self.headers_received = headers_received
        if reused and not headers_received:
            self.retry = Retry.IF_REUSED


class FirstTokenTimeout(UpstreamError):
    """No content event within `first_token_ms`."""

    code = Code.DEADLINE_EXCEEDED
    reason = Reason.FIRST_TOKEN_TIMEOUT


class StreamStalled(UpstreamError):
    """No data-bearing event for `inter_token_ms` after the first content."""

    code = Code.DEADLINE_EXCEEDED
    reason = Reason.STREAM_STALLED


class AttemptTimeout(UpstreamError):
    """The attempt took longer than `total_ms`."""

    code = Code.DEADLINE_EXCEEDED
    reason = Reason.ATTEMPT_TIMEOUT


_CODE_OF_UPSTREAM_REASON = {
    Reason.UPSTREAM_RATE_LIMITED: Code.RESOURCE_EXHAUSTED,
    Reason.UPSTREAM_QUOTA_EXHAUSTED: Code.FAILED_PRECONDITION,
    Reason.UPSTREAM_OVERLOADED: Code.UNAVAILABLE,
    Reason.UPSTREAM_FAILED: Code.UNAVAILABLE,
    Reason.UPSTREAM_REJECTED: Code.INVALID_ARGUMENT,
    Reason.UPSTREAM_MODEL_NOT_FOUND: Code.NOT_FOUND,
    Reason.UPSTREAM_PERMISSION_DENIED: Code.PERMISSION_DENIED,
    Reason.UPSTREAM_CONTENT_BLOCKED: Code.INVALID_ARGUMENT,
    Reason.UPSTREAM_MISCONFIGURED: Code.UNAVAILABLE,
    Reason.UPSTREAM_REDIRECT: Code.UNAVAILABLE,
    Reason.FIRST_TOKEN_TIMEOUT: Code.DEADLINE_EXCEEDED,
}

_NOT_RETRIED = frozenset({Reason.UPSTREAM_REJECTED, Reason.UPSTREAM_CONTENT_BLOCKED})


class UpstreamStatus(UpstreamError):
    """The provider answered with an error: an HTTP status, or an error inside a 200.

    `reason` is the class of the error (see the table in `docs` of errors.proto); the provider's
    own type, code and message are kept beside it, so that the client sees what was said.

    Args:
        reason: one of the UPSTREAM_* reasons.
        message: the provider's message, cut to 2,000 characters, secrets removed by the codec.
        http_status: the HTTP status, 200 for an error inside a stream.
        provider_type, provider_code: the provider's own words, empty if it gave none.
        provider_request_id: its name for the request, which its support asks for.
        retry_after_s: the provider's hint, clamped by the codec to 0..60 s.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: Reason,
        http_status: int,
        provider_type: str = "",
        provider_code: str = "",
        provider_param: str = "",
        provider_request_id: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        metadata = {"upstream_status": str(http_status)}
        if provider_type:
            metadata["provider_type"] = provider_type
        if provider_code:
            metadata["provider_code"] = provider_code
        if provider_param:
            metadata["provider_param"] = provider_param
        if provider_request_id:
            metadata["provider_request_id"] = provider_request_id
        super().__init__(message, retry_after_s=retry_after_s, metadata=metadata)
        self.reason = reason
        self.http_status = http_status
        self.provider_type = provider_type
        self.provider_code = provider_code
        self.provider_param = provider_param
        self.retry = Retry.NO if reason in _NOT_RETRIED else Retry.BEFORE_COMMIT

    @property
    def status_code(self) -> Code:
        return _CODE_OF_UPSTREAM_REASON.get(self.reason, Code.UNAVAILABLE)


class RemoteProtocolError(UpstreamError):
    """The provider's bytes break the format. The bytes themselves are not in the message."""

    reason = Reason.UPSTREAM_PROTOCOL


class NotAnAnswer(RemoteProtocolError):
    """A success whose body is something else: markup of an edge, JSON of another interface. It
    costs nothing: no model has written anything."""


class StreamTruncated(RemoteProtocolError):
    """The body ended without the wire's own end (a finish reason for every choice)."""

    reason = Reason.UPSTREAM_TRUNCATED


class EventTooLarge(RemoteProtocolError):
    """One event is larger than the cap; nothing beyond the cap was buffered."""

    reason = Reason.UPSTREAM_EVENT_TOO_LARGE


class AllAttemptsFailed(UpstreamError):
    """Every attempt failed; it speaks for the failure that tells the client most.

    Args:
        attempts: the failures in order of their attempts, at least one.
    """

    retry = Retry.NO

    def __init__(self, attempts: Sequence[RelayError]) -> None:
        self.attempts = tuple(attempts)
        self.leading = leading_failure(self.attempts)
        many = f" ({len(self.attempts)} attempts failed)" if len(self.attempts) > 1 else ""
        super().__init__(
            f"{self.leading.public_message}{many}",
            retry_after_s=self._soonest_s(),
            metadata=dict(self.leading.metadata),
        )
        self.reason = self.leading.reason

    def _soonest_s(self) -> float | None:
        """When the first of those that said so may be asked again, if the leading one did."""
        if self.leading.retry_after_s is None:
            return None
        return min(one.retry_after_s for one in self.attempts if one.retry_after_s is not None)

    @property
    def status_code(self) -> Code:
        return self.leading.status_code


def leading_failure(failures: Sequence[RelayError]) -> RelayError:
    """The failure to show when several attempts failed.

    A refusal of the request itself says most (the client can mend it); then the last failure,
    which is the freshest word from the last resort. That one wire cannot say something is no word
    on the request while another wire could: it leads only when there is nothing else. Nor does a
    target that was not asked at all, by our own limits or its breaker, speak for one that failed.
    """
    asked = [one for one in failures if not isinstance(one, UnsupportedFeature)] or failures
    asked = [one for one in asked if not isinstance(one, AdmissionError)] or asked
    for failure in asked:
        if failure.retry is Retry.NO:
            return failure
    return asked[-1]


# --- us -------------------------------------------------------------------------------------


class InternalError(RelayError):
    """A bug in the relay."""


class LocalProtocolError(InternalError):
    """We misused one of our own parts."""


class OutsideZones(InternalError):
    """A request was about to be sent out of its data zones; it was not. Others may be asked."""

    retry = Retry.SAFE
