"""Names of client certificates, and what is left out of them."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from cryptography import x509

from relay.tls.names import names_in, names_of
from tests.fakes.tls_files import TlsFiles


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    return TlsFiles(tmp_path)


def test_kinds_have_their_order_and_addresses_are_no_names(files: TlsFiles) -> None:
    leaf = files.client(
        "a b",
        names=[
            x509.RFC822Name("a@relay.test"),
            x509.IPAddress(ipaddress.ip_address("10.0.0.1")),
            x509.UniformResourceIdentifier("spiffe://test/a"),
            x509.DNSName("b.test"),
            x509.DNSName("a.test"),
        ],
    ).leaf
    names = (
        "DNS:b.test",
        "DNS:a.test",
        "URI:spiffe://test/a",
        "EMAIL:a@relay.test",
        "CN:a b",
    )
    assert names_in(leaf) == names
    assert "IP:10.0.0.1" in names_in(leaf, with_addresses=True)


def test_name_of_one_kind_cannot_pass_for_another(files: TlsFiles) -> None:
    assert names_in(files.client("DNS:admin.test", names=[]).leaf) == ("CN:DNS:admin.test",)


def test_names_that_cannot_be_printed_are_left_out(files: TlsFiles) -> None:
    leaf = files.client("a\nb", names=[x509.DNSName("a.test\0.evil.test")]).leaf
    assert names_in(leaf) == ()


def test_without_a_certificate_there_are_none(files: TlsFiles) -> None:
    assert names_of({}) == ()
    assert names_of({"transport_security_type": [b"ssl"], "x509_pem_cert": []}) == ()
    assert names_of({"x509_pem_cert": [b"no certificate"]}) == ()
    assert names_of({"x509_pem_cert": [files.client("a").chain]}) == ("DNS:a.test", "CN:a")
