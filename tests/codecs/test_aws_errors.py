"""Errors of AWS: the class by name and phrase, and nothing of ours in the text."""

from __future__ import annotations

import orjson
import pytest

from relay.codecs import anthropic_errors, openai_errors
from relay.codecs.aws_errors import read_error, read_frame
from relay.errors import Reason, UpstreamStatus
from tests.codecs.aws_frames import needs_botocore, service_model


def decode(status: int, name: str, message: str, *headers: tuple[str, str]) -> UpstreamStatus:
    body = orjson.dumps({"message": message})
    found = read_error(status, [("x-amzn-errortype", name), *headers], body)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("status", "name", "message", "reason"),
    [
        (429, "ThrottlingException", "Too many requests", Reason.UPSTREAM_RATE_LIMITED),
        (429, "ThrottlingException", "Too many tokens per day", Reason.UPSTREAM_QUOTA_EXHAUSTED),
        (429, "ModelNotReadyException", "wait", Reason.UPSTREAM_RATE_LIMITED),
        (503, "ServiceUnavailableException", "x", Reason.UPSTREAM_OVERLOADED),
        (400, "ServiceQuotaExceededException", "x", Reason.UPSTREAM_QUOTA_EXHAUSTED),
        (408, "ModelTimeoutException", "x", Reason.FIRST_TOKEN_TIMEOUT),
        (424, "ModelErrorException", "x", Reason.UPSTREAM_FAILED),
        (424, "ModelStreamErrorException", "x", Reason.UPSTREAM_FAILED),
        (500, "InternalServerException", "x", Reason.UPSTREAM_FAILED),
        (400, "ValidationException", "Input is too long", Reason.UPSTREAM_REJECTED),
        (
            400,
            "ValidationException",
            "The provided model identifier is invalid.",
            Reason.UPSTREAM_MODEL_NOT_FOUND,
        ),
        (
            400,
            "ValidationException",
            "Invocation of model ID x with on-demand throughput isn\u2019t supported.",
            Reason.UPSTREAM_MODEL_NOT_FOUND,
        ),
        (403, "AccessDeniedException", "not authorized", Reason.UPSTREAM_PERMISSION_DENIED),
        (403, "AccessDeniedException", "The API key is not valid", Reason.UPSTREAM_MISCONFIGURED),
        (404, "ResourceNotFoundException", "x", Reason.UPSTREAM_MODEL_NOT_FOUND),
        (403, "InvalidSignatureException", "Signature expired", Reason.UPSTREAM_MISCONFIGURED),
        (403, "UnrecognizedClientException", "x", Reason.UPSTREAM_MISCONFIGURED),
        (403, "ExpiredTokenException", "x", Reason.UPSTREAM_MISCONFIGURED),
        (403, "MissingAuthenticationTokenException", "x", Reason.UPSTREAM_MISCONFIGURED),
        (403, "BrandNewException", "x", Reason.UPSTREAM_PERMISSION_DENIED),
        (418, "BrandNewException", "x", Reason.UPSTREAM_REJECTED),
        (599, "BrandNewException", "x", Reason.UPSTREAM_FAILED),
    ],
)
def test_classes(status: int, name: str, message: str, reason: Reason) -> None:
    found = decode(status, f"{name}:http://internal.amazon.com/coral/", message)
    assert (found.reason, found.public_message, found.provider_type) == (reason, message, name)
    assert found.http_status == status
    # In a stream there is no status to go by.
    camel = name[0].lower() + name[1:]
    inside = read_frame(camel, orjson.dumps({"message": message}))
    assert inside.reason is (Reason.UPSTREAM_FAILED if name.startswith("Brand") else reason)


@needs_botocore
def test_every_error_of_the_services_model_is_known() -> None:
    model = service_model()
    stream = model.operation_model("ConverseStream").output_shape.members["stream"]
    errors = {shape.name for shape in model.operation_model("ConverseStream").error_shapes}
    errors |= {shape.name for shape in model.operation_model("InvokeModel").error_shapes}
    errors |= {name for name, shape in stream.members.items() if shape.metadata.get("exception")}
    assert len(errors) > 12
    known = {name: read_frame(name, b"{}").reason for name in errors}
    failed = {name for name, reason in known.items() if reason is Reason.UPSTREAM_FAILED}
    assert {name[0].lower() + name[1:] for name in failed} == {
        "internalServerException",
        "modelErrorException",
        "modelStreamErrorException",
    }


def test_names_in_the_body() -> None:
    body = b'{"__type":"com.amazon.coral.service#ExpiredTokenException","Message":"old"}'
    found = read_error(403, [], body)
    assert found is not None
    assert (found.reason, found.public_message) == (Reason.UPSTREAM_MISCONFIGURED, "old")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"<html>", b'{"message":"x"}', b'{"__type":7}']
)
def test_what_is_none_of_awss(body: bytes) -> None:
    assert read_error(500, [("server", "x")], body) is None


def test_other_decoders_know_awss_errors() -> None:
    """Bedrock's own endpoints for other wires have AWS's gates before them."""
    headers = [("x-amzn-errortype", "ThrottlingException:"), ("retry-after", "7")]
    for decode_error in (openai_errors.decode_error, anthropic_errors.decode_error):
        found = decode_error(429, headers, b'{"message":"slow"}')
        assert isinstance(found, UpstreamStatus)
        assert (found.reason, found.provider_type) == (
            Reason.UPSTREAM_RATE_LIMITED,
            "ThrottlingException",
        )
        assert found.retry_after_s == 7.0


def test_anthropics_own_shape_counts_first() -> None:
    body = b'{"type":"error","error":{"type":"overloaded_error","message":"m"}}'
    found = anthropic_errors.decode_error(529, [], body)
    assert isinstance(found, UpstreamStatus)
    assert found.provider_type == "overloaded_error"


def test_googles_shape_for_claude_at_vertex() -> None:
    error = {"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}
    documents = ({"error": error}, [{"error": error}])
    for document in documents:
        found = anthropic_errors.decode_error(429, [], orjson.dumps(document))
        assert isinstance(found, UpstreamStatus)
        assert (found.reason, found.provider_type) == (
            Reason.UPSTREAM_RATE_LIMITED,
            "RESOURCE_EXHAUSTED",
        )
    inner = anthropic_errors.decode_inner_error(documents[0])
    assert inner.reason is Reason.UPSTREAM_RATE_LIMITED


def test_what_failed_inside_is_told() -> None:
    body = {"message": "The model stream failed", "originalStatusCode": 500, "originalMessage": "x"}
    found = read_frame("modelStreamErrorException", orjson.dumps(body))
    assert found.public_message == "The model stream failed: x"
    assert read_frame("", b"").public_message == "the provider answered with an error"
    assert read_frame("throttlingException", b"7").public_message == (
        "the provider answered with throttlingException"
    )


def test_nothing_of_ours_is_shown() -> None:
    signed = (
        "The request signature we calculated does not match the signature you provided.\n\n"
        "The Canonical String for this request should have been\n'POST\n/model/m/converse\n\n"
        "x-amz-security-token:SECRET+TOKEN/=="
    )
    found = decode(403, "InvalidSignatureException", signed)
    assert found.public_message == signed.partition("\n")[0]
    said = (
        "User: arn:aws:sts::123456789012:assumed-role/team/bob is not authorized to perform: "
        "bedrock:InvokeModel on resource: arn:aws:bedrock:us-east-1:123456789012:prompt/A "
        "with AKIAIOSFODNN7EXAMPLE, x-amz-security-token: FwoG"
    )
    shown = decode(403, "AccessDeniedException", said).public_message
    assert shown == (
        "User: arn:aws:sts::*** is not authorized to perform: "
        "bedrock:InvokeModel on resource: arn:aws:bedrock:us-east-1:***:prompt/A "
        "with AKIA***, x-amz-security-token: ***"
    )
