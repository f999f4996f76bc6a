"""A service account of the emulated Google: its key file, and the assertions it signs."""

from __future__ import annotations

import base64
import binascii

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

EMAIL = "relay@emulator.iam.gserviceaccount.com"
PROJECT = "emulator"
KEY_ID = "emulator-key-1"

MAX_LIFE_S = 3600
LEEWAY_S = 300
"""How far `iat` may lie ahead."""

_FRAME = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)


class BadAssertion(ValueError):
    """What Google says of an assertion that it does not take."""


class ServiceAccount:
    """One account with one key, made when it is first asked for."""

    def __init__(self) -> None:
        self._key: rsa.RSAPrivateKey | None = None

    def key_file(self, token_uri: str) -> dict[str, str]:
        """What the console lets one download; blocks while the key is made (0.1 s and more)."""
        pem = self._private().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": KEY_ID,
            "private_key": pem.decode(),
            "client_email": EMAIL,
            "client_id": "100000000000000000001",
            "token_uri": token_uri,
        }

    def check(self, assertion: str, now_s: float) -> None:
        """Take an assertion as the token endpoint does.

        Raises:
            BadAssertion: it is not signed by this key, or not for now.
        """
        try:
            head, claims, signature = (_decoded(part) for part in assertion.split("."))
            claim = orjson.loads(claims)
            algorithm = orjson.loads(head)["alg"]
        except (ValueError, KeyError, TypeError, binascii.Error):
            raise BadAssertion("Invalid JWT: Failed to parse the assertion.") from None
        if algorithm != "RS256" or not isinstance(claim, dict):
            raise BadAssertion("Invalid JWT: Only RS256 is supported.")
        signed = assertion.rpartition(".")[0].encode()
        try:
            self._private().public_key().verify(signature, signed, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise BadAssertion("Invalid JWT Signature.") from None
        if claim.get("iss") != EMAIL:
            raise BadAssertion("Invalid grant: account not found")
        if not str(claim.get("aud", "")).endswith("/token"):
            raise BadAssertion("Invalid JWT: aud is not the token endpoint.")
        if not claim.get("scope"):
            raise BadAssertion("Invalid OAuth scope or ID token audience provided.")
        begins, ends = claim.get("iat"), claim.get("exp")
        if not isinstance(begins, int) or not isinstance(ends, int):
            raise BadAssertion(_FRAME)
        if ends - begins > MAX_LIFE_S or begins > now_s + LEEWAY_S or ends <= now_s:
            raise BadAssertion(_FRAME)

    def _private(self) -> rsa.RSAPrivateKey:
        if self._key is None:
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self._key


def user_file(token_uri: str) -> dict[str, str]:
    """What `gcloud auth application-default login` leaves behind."""
    return {
        "type": "authorized_user",
        "client_id": "emulator.apps.googleusercontent.com",
        "client_secret": "emulator-client-secret",
        "refresh_token": "1//emulator-refresh-token",
        "token_uri": token_uri,
    }


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
