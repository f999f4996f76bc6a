"""Signatures: AWS's own published example, botocore as the other side, and what is refused."""

from __future__ import annotations

import calendar
import random
import time
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from relay.emulator.cloud_gate import sent_paths
from relay.emulator.cloud_keys import AwsKeys
from relay.emulator.sigv4_check import SignedRequest, check_signature

# AWS's test suite for Signature Version 4, case `get-vanilla`.
EXAMPLE = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
EXAMPLE_S = float(calendar.timegm((2015, 8, 30, 12, 36, 0)))
VANILLA = SignedRequest(
    "GET",
    ["/"],
    "",
    {
        "host": "example.amazonaws.com",
        "x-amz-date": "20150830T123600Z",
        "authorization": (
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            "SignedHeaders=host;x-amz-date, "
            "Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
        ),
    },
    b"",
)


def check(
    request: SignedRequest, keys: AwsKeys = EXAMPLE, *, service: str = "service", late_s: float = 0
) -> str:
    """The name and message it is refused with; empty if it is taken."""
    known = {keys.access_key_id: keys}
    refused = check_signature(request, service, known.get, EXAMPLE_S + late_s)
    return "" if refused is None else f"{refused.name}: {refused.message}"


def with_headers(**headers: str) -> SignedRequest:
    """The example with other headers; an underscore stands for a dash."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return replace(VANILLA, headers={**VANILLA.headers, **given})


def test_aws_own_example() -> None:
    assert check(VANILLA) == ""


@pytest.mark.parametrize("late_s", [-300.0, -299.0, 0.0, 299.0, 300.0])
def test_five_minutes_either_way(late_s: float) -> None:
    assert check(VANILLA, late_s=late_s) == ""


def test_an_old_signature() -> None:
    assert check(VANILLA, late_s=301) == (
        "InvalidSignatureException: Signature expired: 20150830T123600Z is now earlier than "
        "20150830T123601Z (20150830T124101Z - 5 min.)"
    )


def test_a_signature_of_tomorrow() -> None:
    assert check(VANILLA, late_s=-301) == (
        "InvalidSignatureException: Signature not yet current: 20150830T123600Z is still later "
        "than 20150830T123559Z (20150830T123059Z + 5 min.)"
    )


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        (replace(VANILLA, method="POST"), "InvalidSignatureException: The request signature we"),
        (replace(VANILLA, paths=["/x"]), "InvalidSignatureException: The request signature we"),
        (replace(VANILLA, query="a=b"), "InvalidSignatureException: The request signature we"),
        (replace(VANILLA, body=b"x"), "InvalidSignatureException: The request signature we"),
        (with_headers(host="other"), "InvalidSignatureException: The request signature we"),
        (with_headers(authorization=""), "MissingAuthenticationTokenException"),
        (with_headers(authorization="AWS4-HMAC-SHA256 x"), "IncompleteSignatureException"),
        (with_headers(x_amz_date="yesterday"), "IncompleteSignatureException"),
        (with_headers(x_amz_date="20150829T123600Z"), "InvalidSignatureException: Date in Cred"),
        (with_headers(x_amz_target="t"), "InvalidSignatureException: 'x-amz-target' must be a"),
        (with_headers(x_amz_security_token="t"), "UnrecognizedClientException"),
        (with_headers(x_amz_content_sha256="00"), "InvalidSignatureException: 'x-amz-content"),
    ],
)
def test_what_is_refused(request_: SignedRequest, why: str) -> None:
    assert check(request_).startswith(why)


def test_service_keys_and_life() -> None:
    assert "scoped to correct service: 'bedrock'" in check(VANILLA, service="bedrock")
    assert check(VANILLA, replace(EXAMPLE, access_key_id="OTHER")).startswith("Unrecognized")
    assert check(VANILLA, replace(EXAMPLE, is_revoked=True)).startswith("Unrecognized")
    assert check(VANILLA, replace(EXAMPLE, secret_access_key="x")).startswith("InvalidSignature")
    assert check(VANILLA, replace(EXAMPLE, expires_s=EXAMPLE_S)).startswith("ExpiredToken")


def test_how_a_model_may_have_been_sent() -> None:
    assert sent_paths("/model/arn:aws:b/x/converse") == (
        "/model/arn%3Aaws%3Ab%2Fx/converse",
        "/model/arn:aws:b%2Fx/converse",
        "/model/arn:aws:b%2Fx/converse",
    )
    assert set(sent_paths("/mantle/v1/responses")) == {"/mantle/v1/responses"}


def signed_by_botocore(
    path: str, query: str, body: bytes, headers: dict[str, str], keys: AwsKeys, host: str
) -> tuple[SignedRequest, float]:
    """A request as it would arrive, and when."""
    auth = pytest.importorskip("botocore.auth")
    awsrequest = pytest.importorskip("botocore.awsrequest")
    credentials = SimpleNamespace(
        access_key=keys.access_key_id,
        secret_key=keys.secret_access_key,
        token=keys.session_token or None,
    )
    url = f"https://{host}{path}" + (f"?{query}" if query else "")
    request: Any = awsrequest.AWSRequest("POST", url, headers=headers, data=body)
    auth.SigV4Auth(credentials, "bedrock", "eu-west-1").add_auth(request)
    came = {name.lower(): value for name, value in request.headers.items()} | {"host": host}
    signed = datetime.strptime(came["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return SignedRequest("POST", [path], query, came, body), signed.timestamp()


MODELS = (
    "us.amazon.nova-lite-v1%3A0",
    "us.anthropic.claude-haiku-4-5-20251001-v1:0",
    "arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.x",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile%2Fus.x",
    "a~b_c-d.e",
    "%C3%BCber",
)


def test_botocore_s_signatures_are_taken_and_no_changed_ones() -> None:
    rng = random.Random(8)
    for number in range(200):
        keys = AwsKeys(f"AKIA{number}", f"se/cr+et{rng.random()}")
        if number % 2:
            keys = replace(keys, session_token=f"IQo//+=={rng.random()}")
        path = f"/model/{rng.choice(MODELS)}/converse-stream"
        query = rng.choice(("", "a=b", "b=2&a=1&a=0", "x=%20%2F&y="))
        body = rng.randbytes(rng.choice((0, 1, 200, 5000)))
        headers = {"Content-Type": "application/json", "X-Amzn-Bedrock-Service-Tier": "priority"}
        if number % 3:
            headers["X-Two-Blanks"] = " a   b "
        host = rng.choice(("bedrock-runtime.eu-west-1.amazonaws.com", "127.0.0.1:4433"))
        request, at_s = signed_by_botocore(path, query, body, headers, keys, host)
        known = {keys.access_key_id: keys}
        assert check_signature(request, "bedrock", known.get, at_s) is None
        changed = rng.choice(
            (
                replace(request, body=body + b"."),
                replace(request, query=request.query + "&z=1"),
                replace(request, paths=[path.replace("converse", "invoke")]),
                replace(request, headers={**request.headers, "content-type": "text/plain"}),
                replace(request, headers={**request.headers, "host": "elsewhere"}),
            )
        )
        refused = check_signature(changed, "bedrock", known.get, at_s)
        assert refused is not None
        assert refused.name == "InvalidSignatureException"


def test_a_check_takes_no_longer_than_a_request_may() -> None:
    started_s = time.perf_counter()
    for _ in range(100):
        check(VANILLA)
    assert time.perf_counter() - started_s < 1.0
