"""Certificates of apps with their keys, as an operator would have them: PEM, PKCS#12, odd ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID

from tests.credentials.calls import AT_S

NOW = datetime.fromtimestamp(AT_S, UTC)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(number: int = 1, bits: int = 2048) -> rsa.RSAPrivateKey:
    """The same for the same number: making one takes a tenth of a second."""
    del number
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def certificate(
    key: Key, *, name: str = "relay", from_days: float = -1, to_days: float = 300
) -> x509.Certificate:
    """Signed by itself; its days are counted from the tests' now."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=from_days))
        .not_valid_after(NOW + timedelta(days=to_days))
        .sign(key, SHA256())
    )


def pem(key: Key, *certificates: x509.Certificate, password: str = "") -> bytes:
    """The key, then the certificates."""
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(password))
    return text + b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def pkcs12(
    key: Key | None, leaf: x509.Certificate | None, *others: x509.Certificate, password: str = ""
) -> bytes:
    return serialize_key_and_certificates(b"relay", key, leaf, others, _encryption(password))


def _encryption(password: str) -> KeySerializationEncryption:
    return BestAvailableEncryption(password.encode()) if password else NoEncryption()
