"""By which names a client's certificate knows it, as texts: `DNS:agent.test`,
`URI:spiffe://test/agent`, `EMAIL:agent@relay.test`, `CN:agent`.

gRPC and HTTP hand over the same certificate, so that the names come from one place and are alike.
Only certificates that were verified get here: their issuer vouches for the names.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Mapping
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

PEM_PROPERTY = "x509_pem_cert"
"""Of gRPC's auth context: the client's certificate."""

_KINDS = (
    ("DNS", x509.DNSName),
    ("URI", x509.UniformResourceIdentifier),
    ("EMAIL", x509.RFC822Name),
)


def names_of(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """Of an RPC's client (`context.auth_context()`); none where it showed no certificate."""
    for pem in auth_context.get(PEM_PROPERTY, ()):
        return _names_of_pem(pem)
    return ()


def names_of_transport(transport: asyncio.BaseTransport) -> tuple[str, ...] | None:
    """Of a connection's client; none where it showed no certificate, None without TLS."""
    connection: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    if connection is None:
        return None
    data = connection.getpeercert(binary_form=True)
    if data is None:
        return ()
    try:
        return names_in(x509.load_der_x509_certificate(data))
    except ValueError:
        return ()


@lru_cache(maxsize=1024)
def _names_of_pem(pem: bytes) -> tuple[str, ...]:
    """Remembered: gRPC tells a connection's certificate with every RPC."""
    try:
        return names_in(x509.load_pem_x509_certificate(pem))
    except ValueError:
        return ()


def names_in(certificate: x509.Certificate, *, with_addresses: bool = False) -> tuple[str, ...]:
    """The alternative names in the order of their kinds, then the subject's common names. A name
    with characters that cannot be printed is left out, and all are where they cannot be read.

    Args:
        with_addresses: also `IP:...`, by which servers are known and clients are not.
    """
    found: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        pass
    except (ValueError, UnsupportedAlgorithm, x509.UnsupportedGeneralNameType):
        return ()
    else:
        for kind, of in _KINDS:
            found += [f"{kind}:{name}" for name in extension.value.get_values_for_type(of)]
        if with_addresses:
            addresses = extension.value.get_values_for_type(x509.IPAddress)
            found += [f"IP:{address}" for address in addresses]
    for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        if isinstance(attribute.value, str):
            found.append(f"CN:{attribute.value}")
    return tuple(name for name in found if name.isprintable())
