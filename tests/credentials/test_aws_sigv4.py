"""Our signatures against botocore's own, and against AWS's published example."""

from __future__ import annotations

import calendar
import datetime
import hashlib
import random
import time
from typing import Any
from unittest import mock

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from relay.credentials.aws_sigv4 import AwsKeys, SigV4Signer, host_of, key_of, time_of
from relay.credentials.base import Call
from relay.transport.base import Headers, Origin
from tests.credentials.calls import AT_S, call
from tests.fakes.properties import examples

KEYS = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")

# What a codec may put into a path: encoded or bare, and what is odd in each way.
_PIECES = ("model", "anthropic.claude-v1:0", "arn%3Aaws%3Abedrock", "a%2Fb", "~x", "é", "日本", ".",
           "..", "", "a b", "a+b", "@", "$&'()*,=!", "%25", "-_.", "😀")  # fmt: skip
_paths = st.lists(st.sampled_from(_PIECES) | st.text("abz:%@~é/.", max_size=6), max_size=5).map(
    lambda parts: "/" + "/".join(parts)
)
_queries = st.lists(
    st.tuples(
        st.sampled_from(("a", "b", "alt", "%C3%A9", "")), st.sampled_from(("", "1", "=", "%2F"))
    ),
    max_size=4,
).map(lambda pairs: "&".join(f"{name}={value}" for name, value in pairs))
_values = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=24).map(str.strip)
_headers = st.dictionaries(
    st.sampled_from(
        ("content-type", "x-amzn-bedrock-service-tier", "x-amzn-bedrock-accept", "x-amz-target")
    ),
    _values,
).map(lambda found: list(found.items()))
_origins = st.builds(
    Origin,
    st.sampled_from(("https", "http")),
    st.sampled_from(
        (
            "bedrock-runtime.eu-central-1.amazonaws.com",
            "LocalHost",
            "127.0.0.1",
            "::1",
            "2001:db8::a",
        )
    ),
    st.sampled_from((443, 80, 8443)),
)
_keys = st.builds(
    AwsKeys,
    st.text("ABCDEFGHIJ234567", min_size=16, max_size=20),
    st.text("abcXYZ019/+", min_size=1, max_size=40),
    st.sampled_from(("", "tok==", "FwoGZXIvYXdzE" * 60)),
)


def judged(call: Call, keys: AwsKeys, at_s: float, service: str, region: str) -> dict[str, str]:
    """What botocore adds to the same request."""
    request = AWSRequest(
        method=call.method, url=f"{call.origin.url}{call.path}", data=call.body,
        headers=dict(call.headers),
    )  # fmt: skip
    at = datetime.datetime.fromtimestamp(int(at_s), datetime.UTC)
    credentials = Credentials(
        keys.access_key_id, keys.secret_access_key, keys.session_token or None
    )
    with mock.patch.object(botocore.auth, "get_current_datetime", return_value=at):
        botocore.auth.SigV4Auth(credentials, service, region).add_auth(request)
    given = {name for name, _ in call.headers}
    return {n.lower(): v for n, v in request.headers.items() if n.lower() not in given}


@examples(300, full=20_000)
@given(
    method=st.sampled_from(("POST", "GET")),
    origin=_origins,
    path=_paths,
    query=_queries,
    headers=_headers,
    body=st.binary(max_size=64),
    keys=_keys,
    at_s=st.floats(0, 4e9),
    region=st.sampled_from(("us-east-1", "eu-central-1")),
    service=st.sampled_from(("bedrock", "bedrock-mantle")),
)
def test_signs_as_botocore_does(
    method: str,
    origin: Origin,
    path: str,
    query: str,
    headers: Headers,
    body: bytes,
    keys: AwsKeys,
    at_s: float,
    region: str,
    service: str,
) -> None:
    asked = Call(method, origin, f"{path}?{query}" if query else path, headers, body)
    ours = SigV4Signer(service, region).headers(asked, keys, at_s)
    assert dict(ours) == judged(asked, keys, at_s, service, region)
    assert key_of(ours) == keys.access_key_id
    assert time_of(ours) == int(at_s)


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 8 * 1024, 1024 * 1024])
def test_bodies_of_every_size(size: int) -> None:
    asked = call(body=random.Random(size).randbytes(size))
    ours = SigV4Signer("bedrock", "us-east-1").headers(asked, KEYS, AT_S)
    assert dict(ours) == judged(asked, KEYS, AT_S, "bedrock", "us-east-1")


def test_one_signer_over_days_keys_and_seconds() -> None:
    """What it keeps from the call before is never used for another day, key or second."""
    signer = SigV4Signer("bedrock", "us-east-1")
    other = AwsKeys("AKIDOTHER", "another", "token")
    for at_s in (AT_S, AT_S + 0.9, AT_S + 1, AT_S + 86_400, AT_S + 86_399, AT_S):
        for keys in (KEYS, other, KEYS):
            wanted = judged(call(), keys, at_s, "bedrock", "us-east-1")
            assert dict(signer.headers(call(), keys, at_s)) == wanted


def test_published_example() -> None:
    """AWS's test suite for Signature Version 4, case `get-vanilla-query-order-key-case`."""
    asked = Call("GET", Origin("https", "example.amazonaws.com", 443),
                 "/?Param2=value2&Param1=value1", [], b"")  # fmt: skip
    at_s = float(calendar.timegm((2015, 8, 30, 12, 36, 0, 0, 0, 0)))
    keys = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    sent = dict(SigV4Signer("service", "us-east-1").headers(asked, keys, at_s))
    assert sent["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        "SignedHeaders=host;x-amz-date, "
        "Signature=b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"
    )


def test_only_what_stays_on_the_way_is_signed() -> None:
    headers = [
        ("user-agent", "x"),
        ("accept", "*/*"),
        ("x-amzn-trace-id", "Root=1"),
        ("x-amzn-bedrock-service-tier", "priority"),
        ("content-type", "application/json"),
        ("x-extra", "y"),
    ]
    sent = dict(SigV4Signer("bedrock", "r").headers(call(headers=headers), KEYS, AT_S))
    assert (
        "SignedHeaders=content-type;host;x-amz-date;x-amzn-bedrock-service-tier,"
        in sent["authorization"]
    )


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        (Origin("https", "A.test", 443), "a.test"),
        (Origin("https", "a.test", 8443), "a.test:8443"),
        (Origin("http", "a.test", 80), "a.test"),
        (Origin("http", "::1", 443), "[::1]:443"),
    ],
)
def test_host(origin: Origin, wanted: str) -> None:
    assert host_of(origin) == wanted


def test_keys_show_nothing() -> None:
    keys = AwsKeys("AKIDEXAMPLE", "secret-of-it", "token-of-it")
    signer = SigV4Signer("bedrock", "r")
    signer.headers(call(), keys, AT_S)
    for text in (repr(keys), str(keys), f"{keys}", repr(signer), f"{[keys]}"):
        for value in keys.values():
            assert value not in text


def _best_us(work: Any, rounds: int = 7, calls: int = 200) -> float:
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            work()
        best = min(best, (time.perf_counter() - began) / calls * 1e6)
    return best


@pytest.mark.bench
def test_costs_little_beside_its_hash() -> None:
    """At 8 kB no more than some few hashes of the body take; botocore's takes ten times that."""
    signer, asked = SigV4Signer("bedrock", "us-east-1"), call(body=bytes(8192))
    ours_us = _best_us(lambda: signer.headers(asked, KEYS, AT_S))
    hash_us = _best_us(lambda: hashlib.sha256(asked.body).hexdigest())
    judge_us = _best_us(lambda: judged(asked, KEYS, AT_S, "bedrock", "us-east-1"), 3, 50)
    print(f"ours {ours_us:.1f} us, its hash {hash_us:.1f} us, botocore {judge_us:.1f} us")
    assert ours_us < 4 * hash_us
    assert ours_us < judge_us / 3
