"""What a listener's files hold, read at one moment: taken whole, or not at all."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import structlog

from relay.config import TlsConfig
from relay.config.pem_files import certificates, now, read, revocation_lists
from relay.tls.revocation import Revocations

_log = structlog.get_logger("relay.tls")


class TlsError(Exception):
    """A listener's files are of no use; the message names the field, and shows nothing of them."""


@dataclass(frozen=True)
class Loaded:
    """For handshakes that begin from now on."""

    context: ssl.SSLContext
    """Of HTTP and admin."""
    key_and_chain: tuple[bytes, bytes]
    """PEM, for gRPC, and so is the next one."""
    client_roots: bytes | None
    revocations: Revocations | None
    ends_at: datetime
    """When the certificate does."""

    def __repr__(self) -> str:
        return f"<Loaded until {self.ends_at:%Y-%m-%d}>"


def load(settings: TlsConfig) -> Loaded:
    """Read the files. Blocks for some milliseconds.

    Raises:
        TlsError: one cannot be read or is of no use, or key and certificate do not fit.
    """
    try:
        chain = read(settings.cert_file)
        key = read(settings.key_file)
        roots = None if settings.client_ca_file is None else read(settings.client_ca_file)
        lists = None if settings.crl_file is None else read(settings.crl_file)
        leaf = certificates(chain, settings.cert_file)[0]
        revocations = None
        if lists is not None and settings.crl_file is not None:
            revocations = Revocations(revocation_lists(lists, settings.crl_file))
    except ValueError as error:
        raise TlsError(str(error)) from error
    return Loaded(
        _context(settings, roots), (key, chain), roots, revocations, leaf.not_valid_after_utc
    )


def signature(settings: TlsConfig) -> tuple[object, ...]:
    """Of the files as they are now: another one means that something was done to one of them.
    Replacing the target of a symbolic link, as Kubernetes does, counts. Blocks."""
    paths = (settings.cert_file, settings.key_file, settings.client_ca_file, settings.crl_file)
    return tuple(_signature(path) for path in paths if path is not None)


def _signature(path: str) -> tuple[int, ...] | None:
    try:
        now = os.stat(path)
    except OSError:
        return None
    return (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


def _context(settings: TlsConfig, roots: bytes | None) -> ssl.SSLContext:
    """
    Raises:
        TlsError: OpenSSL will not have the files.
    """
    # With Python's choice of ciphers: forward secrecy only, no CBC without AES.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = _Watched
    is_newest = settings.min_version == "1.3"
    context.minimum_version = ssl.TLSVersion.TLSv1_3 if is_newest else ssl.TLSVersion.TLSv1_2
    # A client that asks for it again and again makes us work (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.cert_file, settings.key_file, password=_refuse)
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(
            f"key_file {settings.key_file} and cert_file {settings.cert_file} cannot be used"
            f" together{_why(error)}"
        ) from None
    if roots is None:
        return context
    try:
        context.load_verify_locations(cadata=roots.decode("ascii", "ignore"))
        if settings.crl_file is not None:
            context.load_verify_locations(cafile=settings.crl_file)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except (ssl.SSLError, OSError, ValueError) as error:
        raise TlsError(f"client_ca_file or crl_file cannot be used{_why(error)}") from None
    is_required = settings.requires_clients
    context.verify_mode = ssl.CERT_REQUIRED if is_required else ssl.CERT_OPTIONAL
    # Whoever is named in the file is trusted, be it no root: as by gRPC's library.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # A session that is resumed brings its certificate along, and nobody looks at it again. Those
    # kept here, for TLS 1.2, can only be looked at when they come: see `_Watched`.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    return context


def _refuse() -> str:
    """Instead of asking on the terminal."""
    raise ValueError("the key is encrypted")


def _why(error: Exception) -> str:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
    return f": {reason}" if reason else ""


class _Watched(ssl.SSLObject):
    """Tells the log why a client did not get in, for who looks for it (`relay serve -v`), and
    keeps out one whose certificate ended since its session began."""

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
            if self.session_reused and (shown := self.getpeercert()):
                ends_s = ssl.cert_time_to_seconds(cast(str, shown["notAfter"]))
                if ends_s <= now().timestamp():
                    raise ssl.SSLCertVerificationError("the certificate of a session has expired")
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            why = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
            _log.debug("tls_handshake_failed", why=why)
            raise
