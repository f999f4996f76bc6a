"""Errors of the Gemini wire: what a `google.rpc.Status` says, and its class."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.gemini_errors import decode_error, decode_inner_error
from relay.errors import Reason, Retry, UpstreamStatus
from tests.fakes.properties import examples

TYPE = "type.googleapis.com/google.rpc."


def status(
    number: int = 400, name: str = "INVALID_ARGUMENT", message: str = "no", *details: Any
) -> dict[str, Any]:
    error: dict[str, Any] = {"code": number, "message": message, "status": name}
    if details:
        error["details"] = list(details)
    return {"error": error}


def detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{TYPE}{kind}", **fields}


def read(document: object, number: int = 400, *headers: tuple[str, str]) -> UpstreamStatus:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    error = decode_error(number, headers, body)
    assert isinstance(error, UpstreamStatus)
    return error


@pytest.mark.parametrize(
    ("number", "name", "reason"),
    [
        (400, "INVALID_ARGUMENT", Reason.UPSTREAM_REJECTED),
        (400, "FAILED_PRECONDITION", Reason.UPSTREAM_PERMISSION_DENIED),
        (400, "OUT_OF_RANGE", Reason.UPSTREAM_REJECTED),
        (401, "UNAUTHENTICATED", Reason.UPSTREAM_MISCONFIGURED),
        (403, "PERMISSION_DENIED", Reason.UPSTREAM_PERMISSION_DENIED),
        (404, "NOT_FOUND", Reason.UPSTREAM_MODEL_NOT_FOUND),
        (429, "RESOURCE_EXHAUSTED", Reason.UPSTREAM_RATE_LIMITED),
        (499, "CANCELLED", Reason.UPSTREAM_FAILED),
        (500, "INTERNAL", Reason.UPSTREAM_FAILED),
        (503, "UNAVAILABLE", Reason.UPSTREAM_OVERLOADED),
        (504, "DEADLINE_EXCEEDED", Reason.FIRST_TOKEN_TIMEOUT),
    ],
)
def test_class_by_name_in_a_status_and_inside_a_success(
    number: int, name: str, reason: Reason
) -> None:
    document = status(number, name)
    error = read(document, number)
    inner = decode_inner_error(document)
    assert isinstance(inner, UpstreamStatus)
    for one, http in ((error, number), (inner, 200)):
        assert (one.reason, one.http_status, one.provider_type) == (reason, http, name)
        assert (one.provider_code, one.public_message) == (str(number), "no")
    assert read([document], number).reason is reason


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (400, Reason.UPSTREAM_REJECTED),
        (401, Reason.UPSTREAM_MISCONFIGURED),
        (403, Reason.UPSTREAM_PERMISSION_DENIED),
        (404, Reason.UPSTREAM_MODEL_NOT_FOUND),
        (413, Reason.UPSTREAM_REJECTED),
        (429, Reason.UPSTREAM_RATE_LIMITED),
        (500, Reason.UPSTREAM_FAILED),
        (502, Reason.UPSTREAM_FAILED),
        (503, Reason.UPSTREAM_OVERLOADED),
        (504, Reason.FIRST_TOKEN_TIMEOUT),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>secret</html>", b'{"error": {', b"7", b"[]"])
def test_class_by_number_alone(number: int, reason: Reason, body: bytes) -> None:
    error = read(body, number)
    assert error.reason is reason
    assert error.public_message == f"the provider answered with status {number}"


def test_an_error_without_anything_inside_a_success() -> None:
    documents: list[object] = [{"error": {}}, {"error": True}, 7, None]
    for document in documents:
        error = decode_inner_error(document, response_id="r1")
        assert error.reason is Reason.UPSTREAM_FAILED
        assert error.metadata["provider_request_id"] == "r1"
    assert decode_inner_error({"error": "busy"}).public_message == "busy"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (
            status(400, "INVALID_ARGUMENT", "x", detail("ErrorInfo", reason="API_KEY_INVALID")),
            Reason.UPSTREAM_MISCONFIGURED,
        ),
        (status(400, message="API key not valid. Please pass..."), Reason.UPSTREAM_MISCONFIGURED),
        (status(400, message="API key expired. Renew"), Reason.UPSTREAM_MISCONFIGURED),
        (
            status(403, "PERMISSION_DENIED", "Your API key was reported as leaked."),
            Reason.UPSTREAM_MISCONFIGURED,
        ),
        (
            status(403, "PERMISSION_DENIED", "x", detail("ErrorInfo", reason="SERVICE_DISABLED")),
            Reason.UPSTREAM_MISCONFIGURED,
        ),
        (
            status(403, "PERMISSION_DENIED", "x", detail("ErrorInfo", reason="BILLING_DISABLED")),
            Reason.UPSTREAM_QUOTA_EXHAUSTED,
        ),
        (
            status(400, "FAILED_PRECONDITION", "Please enable billing on your project"),
            Reason.UPSTREAM_QUOTA_EXHAUSTED,
        ),
        (
            status(429, "RESOURCE_EXHAUSTED", "check your plan and billing details"),
            Reason.UPSTREAM_RATE_LIMITED,
        ),
        (
            status(429, "RESOURCE_EXHAUSTED", "Quota exceeded for metric: m, limit: 0, model: x"),
            Reason.UPSTREAM_QUOTA_EXHAUSTED,
        ),
        (
            status(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted."),
            Reason.UPSTREAM_QUOTA_EXHAUSTED,
        ),
        (
            status(
                429,
                "RESOURCE_EXHAUSTED",
                "x",
                detail("QuotaFailure", violations=[{"quotaId": "RequestsPerMinute"}, 7]),
            ),
            Reason.UPSTREAM_RATE_LIMITED,
        ),
        (
            status(
                429,
                "RESOURCE_EXHAUSTED",
                "x",
                detail("QuotaFailure", violations=[{}, {"quotaId": "RequestsPerDayPerModel"}]),
                detail("RetryInfo", retryDelay="30s"),
            ),
            Reason.UPSTREAM_QUOTA_EXHAUSTED,
        ),
    ],
)
def test_what_is_more_telling_than_the_name(document: dict[str, Any], reason: Reason) -> None:
    error = read(document, document["error"]["code"])
    assert error.reason is reason
    if reason is not Reason.UPSTREAM_RATE_LIMITED:
        assert error.retry_after_s is None


@pytest.mark.parametrize(
    ("message", "details", "headers", "hint"),
    [
        ("x", [detail("RetryInfo", retryDelay="23s")], [], 23),
        ("x", [detail("RetryInfo", retryDelay="0.5s")], [], 0.5),
        ("Please retry in 23.47s.", [detail("RetryInfo", retryDelay="23s")], [], 23.47),
        ("Please retry in 23.47s.", [], [], 23.47),
        ("x", [], [("retry-after", "7")], 7),
        ("x", [detail("RetryInfo", retryDelay="3600s")], [], 60),
        ("x", [detail("RetryInfo", retryDelay="soon")], [], None),
        ("x", [detail("RetryInfo", retryDelay=5)], [], None),
    ],
)
def test_when_to_come_back(
    message: str, details: list[Any], headers: list[tuple[str, str]], hint: float | None
) -> None:
    document = status(429, "RESOURCE_EXHAUSTED", message, *details)
    assert read(document, 429, *headers).retry_after_s == hint


def test_the_rest_of_the_details() -> None:
    error = read(
        status(
            400,
            "INVALID_ARGUMENT",
            "x",
            detail("BadRequest", fieldViolations=[{"field": "contents[0]", "description": "d"}]),
            detail("RequestInfo", requestId="q1"),
            detail("ErrorInfo", reason="NEW_ONE"),
            detail("DebugInfo", detail="secret"),
            7,
        )
    )
    assert (error.provider_param, error.provider_code) == ("contents[0]", "NEW_ONE")
    assert error.metadata["provider_request_id"] == "q1"
    assert error.retry is Retry.NO
    assert "secret" not in str(error.metadata)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (
            "Publisher Model `projects/acme-1/locations/l/models/m` not found",
            "Publisher Model `projects/***/locations/l/models/m` not found",
        ),
        (
            "Consumer 'project_number:123456789' has been suspended",
            "Consumer 'project_number:***' has been suspended",
        ),
        ("used in project 123456789 before", "used in project *** before"),
        ("bad key AIzaSyA1234567890", "bad key AIza***"),
    ],
)
def test_keys_and_projects_are_not_shown(message: str, shown: str) -> None:
    assert read(status(message=message)).public_message == shown


def test_redirects_are_not_followed() -> None:
    assert read(b"", 302).reason is Reason.UPSTREAM_REDIRECT


def test_a_body_that_came_as_an_event() -> None:
    body = b"data: " + orjson.dumps(status(503, "UNAVAILABLE")) + b"\r\n\r\n"
    assert read(body, 503).reason is Reason.UPSTREAM_OVERLOADED


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "code", "message", "status", "details", "@type", "reason"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    document=JSON,
    kind=st.sampled_from(["ErrorInfo", "RetryInfo", "QuotaFailure", "BadRequest", "RequestInfo"]),
    fields=st.dictionaries(
        st.sampled_from(["reason", "retryDelay", "violations", "fieldViolations", "requestId"]),
        JSON,
    ),
    number=st.integers(300, 599),
)
@examples(150)
def test_any_body_is_an_error(document: Any, kind: str, fields: Any, number: int) -> None:
    inside = status(number, "INTERNAL", "x", detail(kind, **fields))
    inside["error"]["more"] = document
    for one in (document, inside):
        assert isinstance(decode_inner_error(one), UpstreamStatus)
        try:
            body = orjson.dumps(one)
        except TypeError:
            continue  # no JSON: integers beyond 64 bits
        assert isinstance(decode_error(number, (), body), UpstreamStatus)
