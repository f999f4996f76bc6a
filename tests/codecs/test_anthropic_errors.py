"""Errors of the Messages API: the class, the facts beside it, and when to come back."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from relay.codecs.anthropic_errors import decode_error, decode_inner_error
from relay.errors import Code, Reason, UpstreamStatus


def error(kind: str, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message, **more}}


def decode(status: int, document: Any, *headers: tuple[str, str]) -> UpstreamStatus:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    found = decode_error(status, list(headers), body)
    assert isinstance(found, UpstreamStatus)
    return found


SPENT = {"error_code": "enforced_spend_limit_reached"}


@pytest.mark.parametrize(
    ("status", "document", "reason"),
    [
        (400, error("invalid_request_error"), Reason.UPSTREAM_REJECTED),
        (
            400,
            error("invalid_request_error", "Your credit balance is too low to use it"),
            Reason.UPSTREAM_QUOTA_EXHAUSTED,
        ),
        (
            400,
            error("invalid_request_error", "You have reached your specified API usage limits."),
            Reason.UPSTREAM_QUOTA_EXHAUSTED,
        ),
        (
            400,
            error("invalid_request_error", "This organization has been disabled."),
            Reason.UPSTREAM_MISCONFIGURED,
        ),
        (
            400,
            error("invalid_request_error", "Output blocked by content filtering policy"),
            Reason.UPSTREAM_CONTENT_BLOCKED,
        ),
        (
            400,
            error("invalid_request_error", "prompt is too long: 3 > 2"),
            Reason.UPSTREAM_REJECTED,
        ),
        (401, error("authentication_error"), Reason.UPSTREAM_MISCONFIGURED),
        (402, error("billing_error"), Reason.UPSTREAM_QUOTA_EXHAUSTED),
        (403, error("permission_error"), Reason.UPSTREAM_PERMISSION_DENIED),
        (404, error("not_found_error", "model: x"), Reason.UPSTREAM_MODEL_NOT_FOUND),
        (409, error("conflict_error"), Reason.UPSTREAM_FAILED),
        (413, error("request_too_large"), Reason.UPSTREAM_REJECTED),
        (413, b"<html>Request Entity Too Large</html>", Reason.UPSTREAM_REJECTED),
        (429, error("rate_limit_error"), Reason.UPSTREAM_RATE_LIMITED),
        (429, error("rate_limit_error", details=SPENT), Reason.UPSTREAM_QUOTA_EXHAUSTED),
        (500, error("api_error"), Reason.UPSTREAM_FAILED),
        (500, b"", Reason.UPSTREAM_FAILED),
        (503, b"upstream connect error", Reason.UPSTREAM_OVERLOADED),
        (504, error("timeout_error"), Reason.FIRST_TOKEN_TIMEOUT),
        (529, error("overloaded_error"), Reason.UPSTREAM_OVERLOADED),
        (529, b"{}", Reason.UPSTREAM_OVERLOADED),
        (302, b"", Reason.UPSTREAM_REDIRECT),
        (302, error("api_error"), Reason.UPSTREAM_REDIRECT),
        # The type is Anthropic's word, whatever a gateway makes of the status.
        (500, error("overloaded_error"), Reason.UPSTREAM_OVERLOADED),
        (418, error("a_new_error"), Reason.UPSTREAM_REJECTED),
        # A gateway that speaks as OpenAI does.
        (
            401,
            {"error": {"type": "invalid_request_error", "code": "invalid_api_key"}},
            Reason.UPSTREAM_MISCONFIGURED,
        ),
    ],
)
def test_classes(status: int, document: Any, reason: Reason) -> None:
    found = decode(status, document)
    assert found.reason is reason
    assert found.http_status == status


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("overloaded_error", Reason.UPSTREAM_OVERLOADED),
        ("request_too_large", Reason.UPSTREAM_REJECTED),
        ("api_error", Reason.UPSTREAM_FAILED),
        ("a_new_error", Reason.UPSTREAM_FAILED),
    ],
)
def test_inside_a_success(kind: str, reason: Reason) -> None:
    found = decode_inner_error(error(kind))
    assert isinstance(found, UpstreamStatus)
    assert (found.reason, found.http_status) == (reason, 200)


def test_facts_are_kept_beside_the_class() -> None:
    document = {**error("rate_limit_error", "slow", details=SPENT), "request_id": "req_body"}
    found = decode(429, document, ("request-id", "req_header"))
    assert found.public_message == "slow"
    assert found.metadata == {
        "upstream_status": "429",
        "provider_type": "rate_limit_error",
        "provider_code": "enforced_spend_limit_reached",
        "provider_request_id": "req_body",
    }
    assert decode(400, error("invalid_request_error")).status_code is Code.INVALID_ARGUMENT


def test_no_secrets_and_no_endless_texts() -> None:
    found = decode(401, error("authentication_error", "bad key sk-ant-api03-abcdef " + "x" * 9000))
    assert "api03" not in found.public_message
    assert len(found.public_message) == 2000
    assert decode(529, error("overloaded_error", "")).public_message == (
        "the provider answered with overloaded_error"
    )


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        ([("retry-after", "25")], 25),
        ([("retry-after", "900")], 60),
        ([], None),
        (
            [
                ("date", "Tue, 21 Apr 2026 14:38:01 GMT"),
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-requests-reset", "2026-04-21T14:38:11Z"),
                ("anthropic-ratelimit-output-tokens-remaining", "8000"),
                ("anthropic-ratelimit-output-tokens-reset", "2026-04-21T14:38:51Z"),
            ],
            10,
        ),
    ],
)
def test_when_to_come_back(headers: list[tuple[str, str]], hint: float | None) -> None:
    assert decode(429, error("rate_limit_error"), *headers).retry_after_s == hint
    assert decode(400, error("invalid_request_error"), *headers).retry_after_s is None


@pytest.mark.parametrize(
    "document", [None, [], "x", 1, {}, {"error": None}, {"error": []}, {"error": {"type": 7}}]
)
def test_any_document_is_an_error(document: Any) -> None:
    assert decode(500, document).reason is Reason.UPSTREAM_FAILED
    found = decode_inner_error(document)
    assert isinstance(found, UpstreamStatus)
