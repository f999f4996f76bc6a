"""Errors as gRPC status and as HTTP: what `errors.proto` documents is what is sent."""

from __future__ import annotations

import orjson
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import (
    AllAttemptsFailed,
    BudgetExceeded,
    ClientCancelled,
    ConnectError,
    Draining,
    InternalError,
    InvalidRequest,
    LimitReached,
    PoolExhausted,
    Reason,
    RelayError,
    StoreDown,
    UnknownModel,
    UpstreamStatus,
)
from relay.frontends.grpc_status import (
    DOMAIN,
    MAX_DETAILS_BYTES,
    MAX_STATUS_BYTES,
    cut,
    to_status,
    to_trailers,
)
from relay.frontends.http_errors import error_body, error_object, http_status, retry_headers
from tests.fakes.properties import examples

LIMITED = UpstreamStatus(
    "slow down",
    reason=Reason.UPSTREAM_RATE_LIMITED,
    http_status=429,
    provider_type="rate_limit",
    provider_code="rpm",
    retry_after_s=1.25,
)


# --- gRPC -----------------------------------------------------------------------------------


def test_status_always_says_the_reason() -> None:
    status = to_status(ConnectError("the provider cannot be reached"))
    info = error_details_pb2.ErrorInfo()
    (detail,) = status.details
    assert detail.Unpack(info)
    assert (status.code, status.message) == (14, "the provider cannot be reached")
    assert (info.reason, info.domain) == ("UPSTREAM_UNREACHABLE", DOMAIN)


def test_status_names_the_field_at_fault() -> None:
    status = to_status(InvalidRequest("a.b is wrong", field="a.b"))
    bad = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(bad)
    assert [(v.field, v.description) for v in bad.field_violations] == [("a.b", "a.b is wrong")]


def test_status_has_the_hint_when_to_try_again() -> None:
    retry = error_details_pb2.RetryInfo()
    assert to_status(LIMITED).details[-1].Unpack(retry)
    assert retry.retry_delay == duration_pb2.Duration(seconds=1, nanos=250_000_000)


def test_cause_of_an_error_stays_inside() -> None:
    try:
        try:
            raise ValueError("Bearer sk-secret")
        except ValueError as cause:
            raise InternalError("the relay failed") from cause
    except InternalError as error:
        sent = to_status(error).SerializeToString() + error_body(error, "req_1")
    assert b"secret" not in sent


@pytest.mark.parametrize("error", [LIMITED, InvalidRequest("a.b is wrong", field="a.b")])
def test_short_error_is_whole_in_the_trailers(error: RelayError) -> None:
    details, status = to_trailers(error)
    assert details == error.public_message
    assert status == to_status(error).SerializeToString()


@examples(100)
@given(
    st.text(alphabet="a日😀", min_size=100, max_size=2000),
    st.dictionaries(
        st.sampled_from(["field", "provider_type", "provider_code", "provider_param", "feature"]),
        st.text(alphabet="b日", max_size=800),
    ),
)
def test_long_error_is_cut_to_what_trailers_hold(text: str, facts: dict[str, str]) -> None:
    error = RelayError(text, metadata=facts, retry_after_s=1.0)
    details, data = to_trailers(error)
    status = status_pb2.Status.FromString(data)
    assert len(details.encode()) <= MAX_DETAILS_BYTES
    assert len(data) <= MAX_STATUS_BYTES
    for shown in (details, status.message):
        assert shown == text or text.startswith(shown.removesuffix("..."))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "INTERNAL"
    assert info.metadata.keys() == facts.keys()
    assert to_status(error).message == text, "in a frame it is whole"


@examples(100)
@given(st.text(max_size=50), st.integers(0, 120))
def test_cut_keeps_characters_whole(text: str, max_bytes: int) -> None:
    shown = cut(text, max_bytes)
    assert len(shown.encode()) <= max_bytes or shown == text == ""
    if shown != text:
        assert text.startswith(shown.rstrip("."))


# --- HTTP -----------------------------------------------------------------------------------


def test_error_object_is_what_openai_clients_read() -> None:
    assert error_object(LIMITED, "req_1") == {
        "error": {
            "message": "slow down",
            "type": "rate_limit_error",
            "param": None,
            "code": "rate_limit_exceeded",
            "x_relay": {
                "reason": "UPSTREAM_RATE_LIMITED",
                "request_id": "req_1",
                "upstream_status": "429",
                "provider_type": "rate_limit",
                "provider_code": "rpm",
                "retry_after_ms": 1250,
            },
        }
    }


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (InvalidRequest("x", field="a"), 400, "invalid_request_error", "invalid_request"),
        (UnknownModel("m"), 404, "invalid_request_error", "model_not_found"),
        (ClientCancelled("x"), 499, "cancelled", "client_cancelled"),
        (Draining("x"), 503, "server_error", "draining"),
        (InternalError("x"), 500, "server_error", "internal"),
        (
            UpstreamStatus("x", reason=Reason.UPSTREAM_QUOTA_EXHAUSTED, http_status=429),
            429,
            "insufficient_quota",
            "insufficient_quota",
        ),
        (
            UpstreamStatus("x", reason=Reason.UPSTREAM_CONTENT_BLOCKED, http_status=400),
            400,
            "invalid_request_error",
            "content_filter",
        ),
        (
            AllAttemptsFailed(
                [UpstreamStatus("x", reason=Reason.UPSTREAM_MISCONFIGURED, http_status=401)]
            ),
            503,
            "server_error",
            "upstream_misconfigured",
        ),
    ],
)
def test_status_type_and_code(error: RelayError, status: int, kind: str, code: str) -> None:
    assert http_status(error) == status
    found = orjson.loads(error_body(error, "req_1"))["error"]
    assert (found["type"], found["code"]) == (kind, code)


def test_param_is_the_field_at_fault_whoever_found_it() -> None:
    ours = error_object(InvalidRequest("x", field="a.b"), "r")["error"]
    theirs = UpstreamStatus(
        "x", reason=Reason.UPSTREAM_REJECTED, http_status=400, provider_param="tools"
    )
    assert isinstance(ours, dict)
    assert ours["param"] == "a.b"
    assert orjson.loads(error_body(theirs, "r"))["error"]["param"] == "tools"


@pytest.mark.parametrize(
    ("error", "is_final"),
    [
        (LIMITED, True),
        (InvalidRequest("x"), True),
        (Draining("x"), False),
        (PoolExhausted("x"), False),
        (AllAttemptsFailed([PoolExhausted("x")]), False),
        (AllAttemptsFailed([ConnectError("x")]), True),
        (LimitReached("used up", retry_after_s=2.0), False),
        (LimitReached("it never fits"), True),
        (BudgetExceeded("x"), True),
        (StoreDown("x"), True),
    ],
)
def test_clients_are_told_when_not_to_try_again(error: RelayError, is_final: bool) -> None:
    headers = dict(retry_headers(error))
    assert headers.get(b"x-should-retry") == (b"false" if is_final else None)


@pytest.mark.parametrize(
    ("hint_s", "header"), [(None, None), (0.0, b"1"), (0.2, b"1"), (1.4, b"2"), (30.0, b"30")]
)
def test_retry_after_is_whole_seconds_and_never_too_early(
    hint_s: float | None, header: bytes | None
) -> None:
    error = RelayError("x", retry_after_s=hint_s)
    headers = dict(retry_headers(error))
    assert headers.get(b"retry-after") == header
    assert (b"retry-after-ms" in headers) is (header is not None)


def test_grpc_is_told_no_moment_too_early() -> None:
    retry = error_details_pb2.RetryInfo()
    status = to_status(LimitReached("used up", retry_after_s=1.2501))
    assert status.details[-1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1251


def test_a_hint_below_a_second_is_told_in_milliseconds() -> None:
    headers = dict(retry_headers(PoolExhausted("full", retry_after_s=0.2501)))
    assert (headers[b"retry-after"], headers[b"retry-after-ms"]) == (b"1", b"251")
