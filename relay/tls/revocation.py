"""Certificates of clients that were taken back, for gRPC, whose library looks at no lists.

The rules are those that OpenSSL follows for the other listeners (`VERIFY_CRL_CHECK_LEAF`): the
list of the certificate's own issuer counts; without one, or with one that has run out, nobody gets
in (RFC 5280 6.3.3: the status is not determined).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509

MAX_REMEMBERED = 10_000
"""Certificates looked up; beyond it all are looked up anew."""

REVOKED = "the client's certificate was revoked"
UNREADABLE = "the client's certificate cannot be read"
NO_LIST = "there is no revocation list of the authority that signed the client's certificate"
RUN_OUT = "the revocation list of the authority that signed the client's certificate has run out"


class Revocations:
    """The lists of one file; frozen, so that answers can be remembered."""

    def __init__(self, lists: Sequence[x509.CertificateRevocationList]) -> None:
        """
        Args:
            lists: signatures were checked. Of several by one issuer the newest counts.
        """
        self._of_issuer = {each.issuer: each for each in sorted(lists, key=_made_at)}
        self._known: dict[bytes, tuple[str, datetime | None]] = {}

    def refusal(self, pem: bytes, now: datetime) -> str:
        """Why this certificate is not taken; "" where it is. The text may be told to its owner."""
        known = self._known.get(pem)
        if known is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            known = self._known[pem] = self._look_up(pem)
        why, runs_out_at = known
        if not why and runs_out_at is not None and now >= runs_out_at:
            return RUN_OUT
        return why

    def _look_up(self, pem: bytes) -> tuple[str, datetime | None]:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            serial = certificate.serial_number
            issuer = certificate.issuer
        except ValueError:
            return UNREADABLE, None
        of_issuer = self._of_issuer.get(issuer)
        if of_issuer is None:
            return NO_LIST, None
        if of_issuer.get_revoked_certificate_by_serial_number(serial) is not None:
            return REVOKED, None
        return "", of_issuer.next_update_utc


def _made_at(crl: x509.CertificateRevocationList) -> datetime:
    return crl.last_update_utc
