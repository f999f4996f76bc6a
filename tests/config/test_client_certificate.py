"""Certificate and key in one file: what opens it, which certificate is the key's, what is wrong."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from relay.config.client_certificate import client_certificate, fault_of_days
from tests.credentials.certificates import NOW, certificate, ec_key, pem, pkcs12, rsa_key

KEY = rsa_key()
LEAF = certificate(KEY)
OTHER = certificate(rsa_key(2), name="authority")
PASSWORD = "pass word-canary-ä"


def fault_of(data: bytes, password: str | None = None) -> str:
    with pytest.raises(ValueError) as raised:
        client_certificate(data, "app.pem", password)
    text = str(raised.value)
    assert "canary" not in text
    assert raised.value.__cause__ is None
    assert raised.value.__context__ is None or raised.value.__suppress_context__
    return text


@pytest.mark.parametrize(
    ("data", "password"),
    [
        (pem(KEY, LEAF), None),
        (LEAF.public_bytes(Encoding.PEM) + pem(KEY), None),
        (b"Bag Attributes\n    friendlyName: relay\n" + pem(KEY, LEAF), None),
        (pem(KEY, LEAF, password=PASSWORD), PASSWORD),
        (pkcs12(KEY, LEAF), None),
        (pkcs12(KEY, LEAF, password=PASSWORD), PASSWORD),
    ],
    ids=["pem", "certificate-first", "bags", "pem-encrypted", "pkcs12", "pkcs12-encrypted"],
)
def test_forms(data: bytes, password: str | None) -> None:
    found = client_certificate(data, "app.pem", password)
    assert (found.leaf, found.chain) == (LEAF, (LEAF,))
    assert found.key.private_numbers() == KEY.private_numbers()
    secret = base64.b64encode(str(KEY.private_numbers().d).encode()).decode()
    assert secret not in repr(found)
    assert str(KEY.private_numbers().d) not in repr(found)


@pytest.mark.parametrize("data", [pem(KEY, OTHER, LEAF), pkcs12(KEY, LEAF, OTHER)])
def test_the_certificate_of_the_key_comes_first_wherever_it_stands(data: bytes) -> None:
    found = client_certificate(data, "app.pem", None)
    assert (found.leaf, found.chain) == (LEAF, (LEAF, OTHER))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "certificate_file: app.pem is neither PEM nor PKCS#12"),
        (b"canary", "certificate_file: app.pem is neither PEM nor PKCS#12"),
        (
            LEAF.public_bytes(Encoding.DER),
            "certificate_file: app.pem is neither PEM nor PKCS#12",
        ),
        (
            pkcs12(KEY, LEAF)[:-7],
            "certificate_file: app.pem is neither PEM nor PKCS#12",
        ),
        (
            LEAF.public_bytes(Encoding.PEM),
            "certificate_file: app.pem holds no private key; certificate and key are expected",
        ),
        (
            pkcs12(None, None, LEAF),
            "certificate_file: app.pem holds no private key; certificate and key are expected",
        ),
        (pem(KEY), "certificate_file: app.pem holds no readable certificates in PEM"),
        (
            pem(KEY, OTHER),
            "certificate_file: no certificate in app.pem is of the private key in it",
        ),
        (
            pkcs12(KEY, None, OTHER),
            "certificate_file: no certificate in app.pem is of the private key in it",
        ),
        (
            pem(KEY, LEAF).replace(b"\nM", b"\ncanary-", 1),
            "certificate_file: the private key in app.pem cannot be read",
        ),
        (
            pem(ec_key(), certificate(ec_key())),
            "certificate_file: the private key in app.pem is not of RSA, and Entra takes no other",
        ),
        (
            pkcs12(ec_key(), certificate(ec_key())),
            "certificate_file: the private key in app.pem is not of RSA, and Entra takes no other",
        ),
        (
            pem(rsa_key(3, 1024), certificate(rsa_key(3, 1024))),
            "certificate_file: the RSA key in app.pem has 1024 bits; 2048 are the least",
        ),
        (
            pem(KEY, LEAF, password=PASSWORD),
            "certificate_password: is required: the private key in app.pem is encrypted",
        ),
        (
            pkcs12(KEY, LEAF, password=PASSWORD),
            "certificate_password: is required: app.pem is encrypted",
        ),
    ],
)
def test_faults(data: bytes, fault: str) -> None:
    assert fault_of(data) == fault


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (
            pem(KEY, LEAF, password=PASSWORD),
            "certificate_password: does not open the private key in app.pem",
        ),
        (pkcs12(KEY, LEAF, password=PASSWORD), "certificate_password: does not open app.pem"),
        (
            pem(KEY, LEAF),
            "certificate_password: the private key in app.pem is not encrypted; leave it out",
        ),
    ],
)
def test_a_wrong_password(data: bytes, fault: str) -> None:
    assert fault_of(data, "another-canary") == fault


def test_days() -> None:
    assert fault_of_days(LEAF, NOW) == ""
    ended = fault_of_days(LEAF, NOW + timedelta(days=301))
    assert ended == f"the certificate expired on {NOW + timedelta(days=300):%Y-%m-%d}"
    assert fault_of_days(LEAF, NOW - timedelta(days=2)).startswith(
        "the certificate holds only from"
    )
