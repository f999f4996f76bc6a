"""Our own credentials in what providers say: whole, cut anywhere, half masked, or encoded."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.codecs.error_text import MAX_MESSAGE_CHARS, public_text
from relay.codecs.openai_errors import decode_error, decode_inner_error
from relay.errors import RelayError, StreamReset, UpstreamStatus
from relay.redaction import MIN_SECRET_CHARS, redact
from tests.fakes.properties import examples

SECRETS = [
    "sk-proj-Abc123XYZ_9-def456",
    "sk-tm-0123456789",
    "0123456789abcdef0123456789abcdef",
    "canary-key-of-our-own",
    "a+b/c==d,e'f;g",
    "abc.user-12345678.defghi/jkl",
    "sk-abc+defghij/klmnop",
    "eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl" * 3,
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "abcabcabcabcabd",
]
every_secret = pytest.mark.parametrize("secret", SECRETS)


def shown(error: RelayError, secret: str, header: str = "authorization") -> list[str]:
    """All public text of the error, as it leaves an attempt that was sent this credential."""
    value = f"Bearer {secret}" if header == "authorization" else secret
    redact(error, [("x-title", "app"), (header, value)])
    texts = [error.public_message, str(error), *error.metadata.values()]
    if isinstance(error, UpstreamStatus):
        texts += [error.provider_type, error.provider_code, error.provider_param]
    return texts


def check(texts: list[str], secret: str) -> None:
    pieces = {
        secret[at : at + MIN_SECRET_CHARS] for at in range(len(secret) - MIN_SECRET_CHARS + 1)
    }
    for text in texts:
        assert not [piece for piece in pieces if piece in text], text[-100:]


def said(message: str, **more: Any) -> UpstreamStatus:
    body = orjson.dumps({"error": {"message": message, **more}})
    error = decode_error(400, [], body)
    assert isinstance(error, UpstreamStatus)
    return error


@every_secret
@pytest.mark.parametrize("around", ["{}", "key {} is wrong", "Bearer {}", "?key={}&a=1", "(`{}`)"])
@pytest.mark.parametrize("header", ["authorization", "api-key"])
def test_quoted_whole(secret: str, around: str, header: str) -> None:
    text = around.format(secret)
    error = said(text, code=text, type=text, param=text)
    check(shown(error, secret, header), secret)
    assert "***" in error.public_message


def test_of_a_signature_the_time_may_be_seen() -> None:
    signature = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    scope = "20261127/us-east-1/bedrock/aws4_request"
    sent = [
        ("x-amz-date", "20261127T120000Z"),
        ("x-amz-security-token", "FwoGZXIvYXdzEBYaDJ"),
        (
            "authorization",
            f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, SignedHeaders=host,"
            f" Signature={signature}",
        ),
    ]
    error = said(f"Signature expired: 20261127T120000Z, {signature}, {scope}, FwoGZXIvYXdzEBYaDJ")
    redact(error, [*sent, ("", "AKIDEXAMPLE")])
    assert error.public_message == f"Signature expired: 20261127T120000Z, ***, {scope}, ***"


@every_secret
@pytest.mark.parametrize("limit", [MAX_MESSAGE_CHARS, 2 * MAX_MESSAGE_CHARS])
@pytest.mark.parametrize("filler", ["x ", "sk-zzzzzzzzzzzzzzzz "])
def test_message_cut_anywhere_in_it(secret: str, limit: int, filler: str) -> None:
    """The second limit is where text is cut before what looks like a key is masked."""
    for shift in range(-2, len(secret) + 3):
        room = limit - shift
        begin = (filler * limit)[:room] if filler == "x " else (filler * limit)[-room:]
        for text in (f"{begin}{secret} is wrong", begin + secret):
            check(shown(said(text), secret), secret)
            raw = {"raw": orjson.dumps({"error": {"message": text}}).decode()}
            check(shown(said("upstream", metadata=raw), secret), secret)


@every_secret
def test_words_cut_anywhere_in_it(secret: str) -> None:
    for shift in range(-2, len(secret) + 3):
        text = ("z " * 200)[: max(0, 200 - shift)] + secret + " zzz"
        check(shown(said("no", code=text, type=text, param=text), secret), secret)
        inner = decode_inner_error({"error": {"message": "no", "innererror": {"code": text}}})
        check(shown(inner, secret), secret)


@given(
    secret=st.text("abAB01-_.+/=,", min_size=8, max_size=24) | st.sampled_from(SECRETS),
    before=st.text("ab -sk.", max_size=12),
    after=st.text("ab -sk.", max_size=12),
    data=st.data(),
)
@examples(300)
def test_any_cut_of_any_text(secret: str, before: str, after: str, data: st.DataObject) -> None:
    text = public_text(f"{before}{secret}{after}")
    cut = data.draw(st.integers(0, len(text)))
    error = UpstreamStatus(
        text[:cut], reason=said("x").reason, http_status=400, provider_code=text[:cut]
    )
    shown(error, secret)
    # Letters around it may look like parts of it: nothing that a cut leaves is longer than them.
    without_it = public_text(f"{before} {after}")
    for at in range(len(secret) - 7):
        piece = secret[at : at + 8]
        assert piece not in error.public_message or piece in without_it


@every_secret
@pytest.mark.parametrize("before", ["", "u", "us", "user:"])
@pytest.mark.parametrize("urlsafe", [True, False])
def test_base64_of_it(secret: str, before: str, urlsafe: bool) -> None:
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    encoded = encode(f"{before}{secret}".encode()).decode()
    (message, *_) = shown(said(f"got Basic: {encoded} and"), secret)
    left = message.removeprefix("got Basic: ").removesuffix(" and").split("***")
    # At each end a few characters hold bits of the neighbours as well.
    assert "***" in message
    assert all(len(part) <= 8 for part in left), left


@every_secret
def test_percent_encoded_and_escaped(secret: str) -> None:
    check(shown(said(f"no: {quote(secret, safe='')}"), quote(secret, safe="")), secret)
    for text in (quote(secret, safe=""), secret.replace("/", "\\/")):
        for cut in (len(text), len(text) - 3):
            (message, *_) = shown(said(f"no: {text[:cut]}"), secret)
            assert text[:8] not in message


def test_other_text_stays() -> None:
    error = said("The model `app` does not exist: see docs", code="not_found", param="model")
    assert shown(error, "sk-proj-Abc123XYZ")[0] == "The model `app` does not exist: see docs"
    assert error.metadata["provider_code"] == "not_found"
    assert shown(StreamReset("the connection broke"), "the connection")[0] == "*** broke"
    assert shown(StreamReset("the app broke"), "app", "x-title")[0] == "the app broke"


def test_any_scheme_of_authorization() -> None:
    error = said("Unknown token 12345-67890-abc")
    redact(error, [("authorization", "Token 12345-67890-abc")])
    assert error.public_message == "Unknown token ***"
