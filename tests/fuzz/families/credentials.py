"""What token endpoints, credential files and keys hold.

Held to: a token is had, or `CredentialUnavailable` (of a file a ValueError) in few words, none of
which is out of what was given; what is signed does not depend on how a target is spelt.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.config.client_certificate import client_certificate
from relay.credentials.ask import Answer
from relay.credentials.aws_sigv4 import _canonical_target
from relay.credentials.google_file import (
    file_object,
    is_address,
    is_token_address,
    text_in,
    token_uri_in,
)
from relay.credentials.google_service_account import ServiceAccountCredential
from relay.credentials.google_user import UserCredential
from relay.credentials.jwt import rsa_key
from relay.credentials.token import FOREVER_S, token_in
from relay.errors import CredentialUnavailable
from tests.fuzz.draws import draw_of
from tests.fuzz.registry import Target

_RSA = trustme.KeyType.RSA
CANARY = "canary-0123456789-ABCDEFGHIJ"


def check_token(given: bytes) -> bool:
    draw = draw_of(given)
    status = draw.choice([200, 200, 200, 400, 401, 503])
    date_s = draw.choice([None, 1_790_000_000.0])
    try:
        token = token_in(Answer("h", status, [], given, 5.0, date_s), 1_790_000_000.0)
    except CredentialUnavailable as error:
        assert CANARY not in error.public_message
        assert len(error.public_message) < 200
        return False
    assert 0 < token.life_s <= FOREVER_S
    assert token.value.isascii()
    assert token.value.isprintable()
    assert len(token.value) < 30 or token.value not in repr(token)
    return True


def check_refused(read: Callable[[bytes], Any], given: bytes) -> bool:
    try:
        read(given)
    except ValueError as error:
        assert CANARY not in str(error)
        assert len(str(error)) < 400
        return False
    return True


def _google(given: bytes) -> None:
    told = file_object(given, "f")
    if told.get("type") == "service_account":
        ServiceAccountCredential("f", given, ["scope"], None, None)
    else:
        UserCredential("f", given, None, None)
    uri = token_uri_in(told, "f")
    assert is_address(uri)
    assert "@" not in uri.partition("://")[2].partition("/")[0]
    text_in(told, "type", "f")


def check_address(given: bytes) -> bool:
    uri = given.decode("utf-8", "replace")
    if is_token_address(uri):
        assert is_address(uri)
        assert uri.lower().startswith(("https://", "http://127.", "http://[", "http://localhost"))
        return True
    return False


def check_target(given: bytes) -> bool:
    """What is signed of a target: the same once more, with no dots, no line end."""
    target = "/" + given.decode("latin-1")
    path, query = _canonical_target(target)
    assert path.startswith("/")
    assert "\n" not in path
    assert "/../" not in f"{path}/"
    assert "/./" not in f"{path}/"
    assert "//" not in path
    return bool(query)


def _pem() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def google_files() -> list[bytes]:
    pem = _pem().decode()
    account = {
        "type": "service_account", "client_email": "a@b.iam", "private_key": pem,
        "private_key_id": "k", "token_uri": "https://oauth2.googleapis.com/token",
    }  # fmt: skip
    user = {
        "type": "authorized_user", "client_id": "c", "client_secret": CANARY,
        "refresh_token": CANARY, "quota_project_id": "p",
    }  # fmt: skip
    return [orjson.dumps(account), orjson.dumps(user), b"{}"]


def certificates() -> list[bytes]:
    """A good one of an RSA key, and one with a broken body."""
    made = trustme.CA(key_type=trustme.KeyType.RSA).issue_cert("a.example", key_type=_RSA)
    whole = made.private_key_pem.bytes() + made.cert_chain_pems[0].bytes()
    return [whole, whole.replace(b"MII", b"MIJ", 1), whole[:-100]]


TOKENS = (
    {"access_token": "t", "expires_in": 3599, "token_type": "Bearer"},
    {"access_token": "t", "expires_on": "1790003600", "resource": "x"},
    {"error": "invalid_grant", "error_description": "AADSTS70002: " + CANARY},
    {"access_token": CANARY + "\n", "expires_in": "soon"},
)
ADDRESSES = (
    b"https://a/token",
    b"http://127.0.0.1:80/t",
    b"http://a",
    b"https://u@a/",
    b"http://[::1]/",
)
TARGETS_SIGNED = (b"model/a%3Ab/converse?x=1&a", b"../a//b/./c", b"a b?c=d&a=%2F#x")

TARGETS = {
    "token": Target(check_token, lambda: [orjson.dumps(one) for one in TOKENS]),
    "google": Target(partial(check_refused, _google), google_files),
    "rsa_key": Target(partial(check_refused, rsa_key), lambda: [_pem(), b"x"]),
    "certificate": Target(
        partial(check_refused, lambda given: client_certificate(given, "f", None)),
        certificates,
    ),
    "address": Target(check_address, lambda: ADDRESSES),
    "signed_target": Target(check_target, lambda: TARGETS_SIGNED),
}
