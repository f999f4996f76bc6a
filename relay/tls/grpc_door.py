"""gRPC's side of a door: its own TLS library, and what that library leaves to us.

It takes a certificate, its key and the roots of clients for each new handshake, and requires
certificates of clients or asks for none. It knows no revocation lists, has no lowest version but
1.2, and resumes sessions whose certificate has ended. So these are looked at when a call comes:
such a client gets through its handshake, and each of its calls is refused before its handler; one
that is revoked also on connections that were there before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from threading import Lock

import grpc
from cryptography import x509

from relay.config.pem_files import now
from relay.tls.door import Door
from relay.tls.loaded import Loaded
from relay.tls.names import PEM_PROPERTY

TOO_OLD = "TLS 1.3 is needed here"
EXPIRED = "the client's certificate has expired"
_RESUMED_PROPERTY = "ssl_session_reused"
_KIND_PROPERTY, _VERSION_PROPERTY = "transport_security_type", "ssl_tls_version"


def credentials(door: Door) -> grpc.ServerCredentials:
    """For `add_secure_port`. Its library asks for what is there before every handshake."""
    first = door.loaded
    lock = Lock()
    served = first

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        """Called by threads of gRPC's, several at a time."""
        nonlocal served
        with lock:
            if door.loaded is served:
                return None
            served = door.loaded
            return _configuration(served)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(first),
        fetch,  # type: ignore[arg-type]  # the stubs do not know of None, which says: no change
        require_client_authentication=door.settings.requires_clients,
    )


def _configuration(loaded: Loaded) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([loaded.key_and_chain], loaded.client_roots)


def looks_at_calls(door: Door) -> bool:
    """Whether `refusal` has anything to look at. Lists may come with a reload."""
    return door.settings.asks_clients or door.settings.min_version == "1.3"


def refusal(door: Door, auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """Why a call with this auth context is not taken; "" where it is, as on a Unix socket."""
    if list(auth_context.get(_KIND_PROPERTY, ())) != [b"ssl"]:
        return ""
    version = door.settings.min_version
    if version == "1.3" and list(auth_context.get(_VERSION_PROPERTY, ())) != [b"TLSv1.3"]:
        return TOO_OLD
    revocations = door.loaded.revocations
    is_resumed = list(auth_context.get(_RESUMED_PROPERTY, ())) == [b"true"]
    if revocations is None and not is_resumed:
        return ""
    for pem in auth_context.get(PEM_PROPERTY, ()):
        if is_resumed and _ends_at(pem) <= now():
            return EXPIRED
        if revocations is not None:
            return revocations.refusal(pem, now())
    return ""


@lru_cache(maxsize=1024)
def _ends_at(pem: bytes) -> datetime:
    """Of a certificate; one that cannot be read has ended."""
    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)
