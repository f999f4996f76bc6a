"""Certificates that apps of the emulated Entra are registered with, and the assertions they sign.

What is taken: PS256 with the certificate's SHA-256 (`x5t#S256`), as Microsoft's page has it, and
RS256 with its SHA-1 (`x5t`), as older libraries sign. Codes of refusals are Entra's.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LEEWAY_S = 300
"""How far clocks may be apart."""

_PADDINGS: Mapping[str, padding.AsymmetricPadding] = {
    "PS256": padding.PSS(padding.MGF1(SHA256()), 32),
    "RS256": padding.PKCS1v15(),
}
_DIGESTS = {"PS256": "x5t#S256", "RS256": "x5t"}


class RefusedAssertion(ValueError):
    """
    Args:
        code: AADSTS...
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class AppCertificates:
    """Those that count, by both digests."""

    def __init__(self) -> None:
        self._known: dict[str, x509.Certificate] = {}
        self._own: dict[str, str] | None = None

    def register(self, pem: str, *, alone: bool = False) -> str:
        """As uploaded to an app.

        Args:
            alone: no other counts from now on.

        Returns:
            Its SHA-256.

        Raises:
            ValueError: it is no certificate in PEM, or of no RSA key.
        """
        certificate = x509.load_pem_x509_certificate(pem.encode())
        if not isinstance(certificate.public_key(), rsa.RSAPublicKey):
            raise ValueError("a certificate of an RSA key is expected")  # noqa: TRY004 - its kind
        der = certificate.public_bytes(Encoding.DER)
        digest = _encoded(hashlib.sha256(der).digest())
        if alone:
            self._known.clear()
        self._known[digest] = certificate
        self._known[_encoded(hashlib.sha1(der, usedforsecurity=False).digest())] = certificate
        return digest

    def own(self) -> dict[str, str]:
        """One that is registered, with its key: `pem` has both. Blocks while the key is made."""
        if self._own is None:
            self._own = _new()
        self.register(self._own["certificate"])
        return self._own

    def check(self, assertion: str, client_id: str, audiences: set[str], now_s: float) -> bool:
        """Take an assertion as the token endpoint does.

        Returns:
            Whether it is one; what others have issued (a federated token) is not looked into.

        Raises:
            RefusedAssertion: it does not count.
        """
        head, claims = _parts(assertion)
        if claims.get("iss") != client_id and not head.keys() & {"x5t", "x5t#S256", "x5c"}:
            return False
        digest = str(head.get(_DIGESTS.get(str(head.get("alg")), ""), "")).rstrip("=")
        certificate = self._known.get(digest)
        if certificate is None:
            raise RefusedAssertion(
                700027, "The certificate used to sign the client assertion is not registered."
            )
        _check_signature(assertion, str(head["alg"]), certificate)
        if not certificate.not_valid_before_utc.timestamp() <= now_s + LEEWAY_S:
            raise RefusedAssertion(700027, "The key used is not yet valid.")
        if certificate.not_valid_after_utc.timestamp() <= now_s:
            raise RefusedAssertion(700027, "The key used is expired.")
        if claims.get("iss") != client_id or claims.get("sub") != client_id:
            raise RefusedAssertion(700021, "The assertion's application is not client_id.")
        if claims.get("aud") not in audiences:
            raise RefusedAssertion(700023, "The assertion's audience is not this endpoint.")
        if not claims.get("jti"):
            raise RefusedAssertion(50027, "Invalid JWT token: no jti.")
        begins, ends = claims.get("nbf", claims.get("iat")), claims.get("exp")
        if not isinstance(begins, int | float) or not isinstance(ends, int | float):
            raise RefusedAssertion(50027, "Invalid JWT token: no nbf or exp.")
        if begins > now_s + LEEWAY_S or ends <= now_s - LEEWAY_S:
            raise RefusedAssertion(700024, "The assertion is not within its valid time range.")
        return True


def _parts(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Head and claims; empty where it is none of JSON, as of a token that is opaque."""
    try:
        found = [orjson.loads(_decoded(part)) for part in assertion.split(".")[:2]]
    except (ValueError, binascii.Error):
        return {}, {}
    if len(found) != 2 or not all(isinstance(part, dict) for part in found):
        return {}, {}
    return found[0], found[1]


def _check_signature(assertion: str, algorithm: str, certificate: x509.Certificate) -> None:
    signed, _, signature = assertion.rpartition(".")
    key = certificate.public_key()
    try:
        assert isinstance(key, rsa.RSAPublicKey)  # noqa: S101 - as `register` took it
        key.verify(_decoded(signature), signed.encode(), _PADDINGS[algorithm], SHA256())
    except (InvalidSignature, ValueError):
        raise RefusedAssertion(
            700027, "The client assertion contains an invalid signature."
        ) from None


def _new() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "emulator-app")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .sign(key, SHA256())
    )
    own = certificate.public_bytes(Encoding.PEM).decode()
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return {"certificate": own, "pem": text + own}


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
