"""Errors: every body shape, the class of each, hints, and what must not be shown."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.codecs.error_text import MAX_MESSAGE_CHARS, public_text
from relay.codecs.openai_errors import decode_error
from relay.errors import Code, Reason, Retry, UpstreamStatus


def decode(status: int, document: Any, *headers: tuple[str, str]) -> UpstreamStatus:
    body = document if isinstance(document, bytes) else orjson.dumps(document)
    error = decode_error(status, list(headers), body)
    assert isinstance(error, UpstreamStatus)
    assert error.http_status == status
    return error


def openai(message: str = "m", type: str | None = None, code: Any = None, **more: Any) -> Any:
    return {"error": {"message": message, "type": type, "code": code, "param": None, **more}}


REJECTED = Reason.UPSTREAM_REJECTED
MISCONFIGURED = Reason.UPSTREAM_MISCONFIGURED
QUOTA = Reason.UPSTREAM_QUOTA_EXHAUSTED
LIMITED = Reason.UPSTREAM_RATE_LIMITED
OVERLOADED = Reason.UPSTREAM_OVERLOADED
FAILED = Reason.UPSTREAM_FAILED
NOT_FOUND = Reason.UPSTREAM_MODEL_NOT_FOUND
DENIED = Reason.UPSTREAM_PERMISSION_DENIED
BLOCKED = Reason.UPSTREAM_CONTENT_BLOCKED
TIMEOUT = Reason.FIRST_TOKEN_TIMEOUT


@pytest.mark.parametrize(
    ("status", "document", "reason"),
    [
        (400, openai(type="invalid_request_error", code="context_length_exceeded"), REJECTED),
        (400, openai(code="unsupported_parameter"), REJECTED),
        (400, openai(code="content_filter"), BLOCKED),
        (400, openai(innererror={"code": "ResponsibleAIPolicyViolation"}), BLOCKED),
        (400, openai(type="data_inspection_failed"), BLOCKED),
        (400, openai(type="Arrearage", code="Arrearage"), QUOTA),
        (400, openai(code="model_not_found"), NOT_FOUND),
        (400, {"code": "Some requested entity", "error": "The model x does not exist"}, NOT_FOUND),
        (400, {"code": "c", "error": "Incorrect API key provided: xai-abcdefgh."}, MISCONFIGURED),
        (400, openai(code="tool_use_failed"), FAILED),
        (400, openai("Your credit balance is too low to access the API"), QUOTA),
        (
            400,
            {"object": "error", "message": "Invalid model: x", "type": "invalid_model"},
            NOT_FOUND,
        ),
        (401, {"detail": "Invalid API Key"}, MISCONFIGURED),
        (401, {"error": "Unauthorized"}, MISCONFIGURED),
        (401, openai(type="authentication_error", code="invalid_request_error"), MISCONFIGURED),
        (402, openai("Insufficient Balance", code="invalid_request_error"), QUOTA),
        (403, openai(code="unsupported_country_region_territory"), DENIED),
        (403, openai("not allowed"), DENIED),
        (403, openai("Your chosen model requires moderation"), BLOCKED),
        (403, openai(type="insufficient_quota"), QUOTA),
        (404, openai(code="DeploymentNotFound"), NOT_FOUND),
        (404, {"error": "model 'x' not found"}, NOT_FOUND),
        (408, openai(code=408), TIMEOUT),
        (409, openai(), FAILED),
        (413, openai("Request too large for model", code="rate_limit_exceeded"), REJECTED),
        (422, {"detail": [{"loc": ["body", "n"], "msg": "extra"}]}, REJECTED),
        (429, openai(type="tokens", code="rate_limit_exceeded"), LIMITED),
        (429, openai("Request too large for gpt", code="rate_limit_exceeded"), REJECTED),
        (429, openai(type="insufficient_quota", code="insufficient_quota"), QUOTA),
        (429, {"object": "error", "message": "m", "type": "rate_limited", "code": "1300"}, LIMITED),
        (429, {"code": "Throttling.RateQuota", "message": "m"}, LIMITED),
        (498, openai(code="capacity_exceeded"), LIMITED),
        (500, openai(type="server_error"), FAILED),
        (502, b"<html>bad gateway</html>", FAILED),
        (503, openai(code="server_is_overloaded"), OVERLOADED),
        (503, b"", OVERLOADED),
        (504, b"upstream timed out", TIMEOUT),
        (524, b"", FAILED),
        (529, openai(type="overloaded_error"), OVERLOADED),
        (418, b"{}", REJECTED),
        (302, b"", Reason.UPSTREAM_REDIRECT),
    ],
)
def test_classes(status: int, document: Any, reason: Reason) -> None:
    assert decode(status, document).reason is reason


def test_facts_are_kept_beside_the_class() -> None:
    error = decode(400, openai("no", "invalid_request_error", "invalid_value", param="tools[0]"))
    assert error.public_message == "no"
    assert error.metadata == {
        "upstream_status": "400",
        "provider_type": "invalid_request_error",
        "provider_code": "invalid_value",
    } | {"provider_param": "tools[0]"}
    assert (error.status_code, error.retry) == (Code.INVALID_ARGUMENT, Retry.NO)


def test_our_key_refused_is_not_the_clients_fault() -> None:
    error = decode(401, openai(code="invalid_api_key"))
    assert (error.status_code, error.retry) == (Code.UNAVAILABLE, Retry.BEFORE_COMMIT)


def test_hints_only_where_waiting_helps() -> None:
    hint = ("retry-after", "5")
    assert decode(429, openai(code="rate_limit_exceeded"), hint).retry_after_s == 5
    assert decode(503, b"", hint).retry_after_s == 5
    assert decode(429, openai(code="insufficient_quota"), hint).retry_after_s is None
    assert decode(400, openai(), hint).retry_after_s is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"detail": "gone"}, "gone"),
        ({"detail": [{"loc": ["body", "n"], "msg": "extra"}, {"msg": "x"}]}, "body.n: extra; x"),
        ({"message": {"detail": [{"msg": "Field required"}]}}, "Field required"),
        ({"error": "text"}, "text"),
        ([{"error": {"message": "listed"}}], "listed"),
        ({"code": "c", "message": "flat", "request_id": "r"}, "flat"),
        (
            openai("Provider returned error", metadata={"raw": '{"error":{"message":"deep"}}'}),
            "Provider returned error: deep",
        ),
        (openai("Provider returned error", metadata={"raw": "<html>"}), "Provider returned error"),
        (
            openai("Provider returned error", metadata={"raw": "busy"}),
            "Provider returned error: busy",
        ),
        (b'event: error\ndata: {"code":"c","message":"streamed"}\n\n', "streamed"),
        (b'data: {"error":{"message":"streamed"}}', "streamed"),
        (b"\xef\xbb\xbf \n" + orjson.dumps(openai("late")), "late"),
        (b"plain words of an edge", "the provider answered with status 500"),
        (b"<html>host.internal</html>", "the provider answered with status 500"),
        (b"", "the provider answered with status 500"),
        (b"7", "the provider answered with status 500"),
        ({"error": {}}, "the provider answered with status 500"),
    ],
)
def test_messages(document: Any, message: str) -> None:
    assert decode(500, document).public_message == message


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("key sk-proj-Abc123-XYZ_9. See", "key sk-***. See"),
        ("key sk-***********abcd is", "key sk-*** is"),
        ("sk-tm-0123456789", "sk-***"),
        ("gsk_abcdefghij and xai-abcdefghij", "gsk_*** and xai-***"),
        ("AIzaSyA-abcdefghijklmn", "AIza***"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer ***"),
        ("Your api key: ****-key is invalid", "Your api key: *** is invalid"),
        ("https://h/p?key=abcdef&x=1", "https://h/p?key=***&x=1"),
        ("in organization org-AbCdEf123456 on", "in organization org-*** on"),
        ("a sketchy task-force; ask-me", "a sketchy task-force; ask-me"),
    ],
)
def test_secrets_are_not_shown(said: str, shown: str) -> None:
    assert public_text(said) == shown
    assert decode(400, openai(said)).public_message == shown


def test_code_and_type_are_scrubbed_and_cut_too() -> None:
    error = decode(400, openai(code="sk-abcdefghijk", type="x" * 1000))
    assert error.provider_code == "sk-***"
    assert len(error.provider_type) == 200


def test_messages_are_cut() -> None:
    assert len(decode(400, openai("x" * 100_000)).public_message) == MAX_MESSAGE_CHARS


DEPTHS = [8, 120, 510, 900, 1020]


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ('{"detail":', "}"),
        ('{"error":{"message":', "}}"),
        ('{"detail":{"message":', "}}"),
        ('{"detail":[', "]}"),
        ('{"message":{"msg":[', "]}}"),
        ('{"detail":[{"msg":"m","loc":[', "]}]}"),
        ("[", "]"),
    ],
)
def test_errors_nested_without_end_are_taken(opening: str, closing: str, depth: int) -> None:
    body = (opening * depth + '"x"' + closing * depth).encode()
    assert decode(503, body).reason is OVERLOADED


def test_messages_are_found_some_levels_down() -> None:
    body = {"detail": [{"message": {"detail": [{"loc": ["body", 0], "msg": "missing"}]}}]}
    assert decode(422, body).public_message == "body.0: missing"


def test_long_messages_are_cut_before_they_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def retry_after_s(headers: Any, message: str) -> None:
        searched.append(len(message))

    monkeypatch.setattr("relay.codecs.openai_errors.retry_after_s", retry_after_s)
    decode(429, openai("x" * 60_000))
    assert searched == [2 * MAX_MESSAGE_CHARS]


@given(status=st.integers(300, 599), body=st.binary(max_size=60))
@settings(max_examples=200, deadline=None)
def test_any_body_is_taken(status: int, body: bytes) -> None:
    assert decode(status, body).public_message


JSON = st.recursive(
    st.none()
    | st.integers(-(10**30), 10**30).filter(lambda n: abs(n) < 2**63)
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "detail",
                    "code",
                    "type",
                    "metadata",
                    "raw",
                    "msg",
                    "loc",
                    "choices",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(status=st.integers(400, 599), document=JSON)
@settings(max_examples=300, deadline=None)
def test_any_json_is_taken(status: int, document: Any) -> None:
    assert decode(status, document).public_message
