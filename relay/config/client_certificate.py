"""A certificate with its private key in one file, PEM or PKCS#12, by which a client says who it is.

Every function blocks: what is encrypted takes tens of milliseconds to open. A fault is a
`ValueError` whose text begins with the field that it is a fault of, names the file, and says
nothing of what is in it.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import load_key_and_certificates

from relay.config.pem_files import certificates, is_key_of, private_key_text

FILE = "certificate_file"
PASSWORD = "certificate_password"  # noqa: S105 - the name of a field
MIN_KEY_BITS = 2048
"""Of RSA, to be signed with by PS256 (RFC 7518, section 3.5)."""


class ClientCertificate(NamedTuple):
    """Key and certificate belong together. Prints no key: that has no text of its own."""

    key: RSAPrivateKey
    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    """The leaf, then the file's others in its order."""


def client_certificate(data: bytes, path: str, password: str | None) -> ClientCertificate:
    """
    Args:
        data: what is in the file.
        path: of the file, for people.
        password: of the private key, or of the whole PKCS#12; None: it has none.

    Raises:
        ValueError: it cannot be opened with this password, the key is missing, is none of RSA or
            is too short, or no certificate of the file is of this key.
    """
    secret = None if password is None else password.encode()
    if b"-----BEGIN" in data:
        key, found = _in_pem(data, path, secret)
    else:
        key, found = _in_pkcs12(data, path, secret)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError(  # noqa: TRY004 - a fault of the file
            f"{FILE}: the private key in {path} is not of RSA, and Entra takes no other"
        )
    if key.key_size < MIN_KEY_BITS:
        raise ValueError(
            f"{FILE}: the RSA key in {path} has {key.key_size} bits; {MIN_KEY_BITS} are the least"
        )
    leaf = next((each for each in found if is_key_of(key, each)), None)
    if leaf is None:
        raise ValueError(f"{FILE}: no certificate in {path} is of the private key in it")
    return ClientCertificate(key, leaf, (leaf, *(each for each in found if each != leaf)))


def fault_of_days(certificate: x509.Certificate, at: datetime) -> str:
    """Why it does not hold then; empty if it does."""
    if certificate.not_valid_after_utc <= at:
        return f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    if certificate.not_valid_before_utc > at:
        return f"the certificate holds only from {certificate.not_valid_before_utc:%Y-%m-%d} on"
    return ""


def _in_pem(
    data: bytes, path: str, password: bytes | None
) -> tuple[PrivateKeyTypes, list[x509.Certificate]]:
    text = private_key_text(data)
    if text is None:
        raise ValueError(f"{FILE}: {path} holds no private key; certificate and key are expected")
    try:
        # Unchecked numbers: a wrong key would not fit its certificate.
        key = load_pem_private_key(text, password, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise ValueError(
            f"{PASSWORD}: is required: the private key in {path} is encrypted"
            if password is None
            else f"{PASSWORD}: the private key in {path} is not encrypted; leave it out"
        ) from None
    except (ValueError, UnsupportedAlgorithm) as error:
        if password is not None and "password" in str(error).lower():
            raise ValueError(f"{PASSWORD}: does not open the private key in {path}") from None
        raise ValueError(f"{FILE}: the private key in {path} cannot be read") from None
    try:
        return key, certificates(data, path)
    except ValueError as error:
        raise ValueError(f"{FILE}: {error}") from None


def _in_pkcs12(
    data: bytes, path: str, password: bytes | None
) -> tuple[PrivateKeyTypes, list[x509.Certificate]]:
    try:
        key, leaf, others = load_key_and_certificates(data, password)
    except (ValueError, UnsupportedAlgorithm) as error:
        if "password" not in str(error).lower():
            raise ValueError(f"{FILE}: {path} is neither PEM nor PKCS#12") from None
        raise ValueError(
            f"{PASSWORD}: is required: {path} is encrypted"
            if password is None
            else f"{PASSWORD}: does not open {path}"
        ) from None
    if key is None:
        raise ValueError(f"{FILE}: {path} holds no private key; certificate and key are expected")
    return key, [each for each in (leaf, *others) if each is not None]
