"""What is wrong with a listener's TLS files and still serves, or will not for long."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509

from relay.config.pem_files import certificates, read, revocation_lists
from relay.config.tls import TlsConfig
from relay.config.whole import Config

SOON = timedelta(days=14)


def tls_of_paths(config: Config) -> dict[str, TlsConfig]:
    """Every TLS section that a listener uses, by its path in the file."""
    found: dict[str, TlsConfig] = {}
    for name, listener in config.server.listeners.items():
        tls = config.tls_of(name)
        if tls is not None:
            found["tls" if listener.tls is None else f"server.{name}.tls"] = tls
    return found


def tls_warnings(config: Config, at: datetime) -> list[str]:
    """One line each. Reads the files, which were read before: one that has gone meanwhile is left
    to who uses it."""
    found: list[str] = []
    for path, tls in tls_of_paths(config).items():
        try:
            found += _of_one(path, tls, at)
        except (OSError, ValueError):
            continue
    return found


def _of_one(path: str, tls: TlsConfig, at: datetime) -> Iterator[str]:
    leaf, *between = certificates(read(tls.cert_file), tls.cert_file)
    yield from of_dates(f"{path}.cert_file", "the certificate", leaf, at)
    for each in between:
        yield from of_dates(f"{path}.cert_file", f"that of {_named(each)}", each, at)
    if os.stat(tls.key_file).st_mode & (stat.S_IROTH | stat.S_IWOTH):
        yield (
            f"{path}.key_file: every user of this machine can read or write {tls.key_file};"
            " chmod 600 it"
        )
    if tls.client_ca_file is not None:
        for each in certificates(read(tls.client_ca_file), tls.client_ca_file):
            yield from of_dates(f"{path}.client_ca_file", f"that of {_named(each)}", each, at)
    if tls.crl_file is not None:
        for each_list in revocation_lists(read(tls.crl_file), tls.crl_file):
            runs_out_at = each_list.next_update_utc
            if runs_out_at is not None and runs_out_at <= at:
                issuer = each_list.issuer.rfc4514_string()
                yield (
                    f"{path}.crl_file: the list of {issuer!r} ran out on {day(runs_out_at)}: no"
                    " client with a certificate of its gets in"
                )


def of_dates(field: str, what: str, certificate: x509.Certificate, at: datetime) -> Iterator[str]:
    """At most one line: of a certificate that does not hold, or not for long."""
    begins_at, ends_at = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if ends_at <= at:
        yield f"{field}: {what} expired on {day(ends_at)}: the other side will refuse it"
    elif ends_at - at < SOON:
        yield f"{field}: {what} expires on {day(ends_at)}"
    elif begins_at > at:
        yield f"{field}: {what} holds only from {day(begins_at)} on"


def _named(certificate: x509.Certificate) -> str:
    return repr(certificate.subject.rfc4514_string())


def day(moment: datetime) -> str:
    """As people write it."""
    return f"{moment:%Y-%m-%d}"
