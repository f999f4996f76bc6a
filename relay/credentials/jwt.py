"""Assertions signed with RSA (RFC 7515, 7523): who we are, to a token endpoint."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, PSS, PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

BEARER_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
"""`client_assertion_type` of a client that says by an assertion who it is (RFC 7523, 2.2)."""


def rsa_key(pem: bytes) -> RSAPrivateKey:
    """A private key without a password. Its numbers are not checked for being primes, which takes a
    tenth of a second: it is the operator's own.

    Raises:
        ValueError: it is none; quotes nothing of it.
    """
    try:
        key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("no RSA private key in PEM without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("an RSA private key is expected")  # noqa: TRY004 - a fault of the file
    return key


def signed_rs256(key: RSAPrivateKey, head: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """The assertion; `alg` and `typ` are put into its head. Takes a millisecond or two."""
    text = _text("RS256", head, claims)
    return (text + b"." + encoded(key.sign(text, PKCS1v15(), SHA256()))).decode()


def signed_ps256(key: RSAPrivateKey, head: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """As `signed_rs256`, by RSASSA-PSS with a salt as long as the digest (RFC 7518, 3.5)."""
    text = _text("PS256", head, claims)
    padding = PSS(MGF1(SHA256()), PSS.DIGEST_LENGTH)
    return (text + b"." + encoded(key.sign(text, padding, SHA256()))).decode()


def encoded(data: bytes) -> bytes:
    """Base64url without padding, as all parts of an assertion are."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _text(algorithm: str, head: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    parts = ({"typ": "JWT", "alg": algorithm, **head}, dict(claims))
    return b".".join(encoded(orjson.dumps(part)) for part in parts)
