"""Certificates, private keys and revocation lists in PEM files, and what is wrong with one.

Every function that reads blocks. A fault is a `ValueError` whose text names the file and says
nothing of what is in it; of a private key nothing is ever told but whether it fits.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

MAX_BYTES = 64 * 1024 * 1024
"""Of one file: revocation lists of large authorities are some megabytes."""

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----", re.DOTALL)
_LIST = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)


def read(path: str) -> bytes:
    """
    Raises:
        ValueError: it cannot be read, or is larger than any file of its kind.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"{path} is larger than {MAX_BYTES} bytes")
    return data


def certificates(data: bytes, path: str) -> list[x509.Certificate]:
    """At least one, in the order of the file.

    Raises:
        ValueError: there is none, or one that cannot be read.
    """
    try:
        found = x509.load_pem_x509_certificates(data)
        for certificate in found:
            certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"{path} holds no readable certificates in PEM") from None
    return found


def private_key(data: bytes, path: str) -> PrivateKeyTypes:
    """The first one of the file; certificates may stand beside it.

    Raises:
        ValueError: there is none, it is encrypted, or cannot be read.
    """
    text = private_key_text(data)
    if text is None:
        raise ValueError(f"{path} holds no private key in PEM")
    try:
        # Without the check of the numbers, which takes tens of milliseconds: a wrong key would not
        # fit its certificate.
        return load_pem_private_key(text, None, unsafe_skip_rsa_key_validation=True)
    except TypeError:
        raise ValueError(
            f"the private key in {path} is encrypted; keep it in plain, in a file that only the"
            " relay can read"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError(f"the private key in {path} cannot be read") from None


def private_key_text(data: bytes) -> bytes | None:
    """The first private key of a file that holds other things too; None if there is none."""
    match = _KEY.search(data)
    return None if match is None else match[0]


def is_key_of(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    """Whether they belong together."""
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key.public_key().public_bytes(*form) == certificate.public_key().public_bytes(*form)


def revocation_lists(data: bytes, path: str) -> list[x509.CertificateRevocationList]:
    """At least one.

    Raises:
        ValueError: there is none, or one that cannot be read, or that is not whole: a delta, or a
            list of some reasons or for other authorities, which would have to be put together.
    """
    try:
        found = [x509.load_pem_x509_crl(match[0]) for match in _LIST.finditer(data)]
        is_whole = all(_is_whole(each) for each in found)
    except (ValueError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType):
        raise ValueError(f"{path} holds a revocation list that cannot be read") from None
    if not found:
        raise ValueError(f"{path} holds no revocation list in PEM (BEGIN X509 CRL)")
    if not is_whole:
        raise ValueError(f"{path} holds a delta or partial revocation list; give whole ones")
    return found


def _is_whole(crl: x509.CertificateRevocationList) -> bool:
    for extension in crl.extensions:
        value = extension.value
        if isinstance(value, x509.DeltaCRLIndicator):
            return False
        if isinstance(value, x509.IssuingDistributionPoint):
            if value.only_some_reasons or value.indirect_crl:
                return False
            if value.only_contains_ca_certs or value.only_contains_attribute_certs:
                return False
        elif extension.critical and isinstance(value, x509.UnrecognizedExtension):
            return False
    return True


def is_signed_by_one_of(
    crl: x509.CertificateRevocationList, authorities: list[x509.Certificate]
) -> bool:
    """Whether one of the authorities has issued a revocation list."""
    return any(
        authority.subject == crl.issuer and _has_signed(authority, crl) for authority in authorities
    )


def _has_signed(authority: x509.Certificate, crl: x509.CertificateRevocationList) -> bool:
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def now() -> datetime:
    """By the wall clock, as certificates tell time."""
    return datetime.now(UTC)
