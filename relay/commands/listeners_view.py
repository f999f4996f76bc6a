"""Where a configuration listens, as `relay check` shows it."""

from __future__ import annotations

from datetime import datetime

from rich.markup import escape
from rich.table import Column, Table

from relay.config import Config
from relay.config.pem_files import certificates, now, read
from relay.tls.names import names_in


def listeners_table(config: Config) -> Table:
    """Where is listened, who is let in, and until when the certificates hold."""
    headers = ("listener", "address", "TLS", "certificate", "until")
    table = Table(*(Column(each, overflow="fold") for each in headers), title="listeners")
    for name, listener in config.server.listeners.items():
        tls = config.tls_of(name)
        cells = ["by a proxy" if listener.proxy_terminates_tls else "plain", "-", "-"]
        if tls is not None:
            cells = [
                f"{_CLIENTS[tls.asks_clients, tls.requires_clients]}, {tls.min_version} or newer"
            ]
            leaf = certificates(read(tls.cert_file), tls.cert_file)[0]
            names = [text.partition(":")[2] for text in names_in(leaf, with_addresses=True)]
            cells += [", ".join(dict.fromkeys(names)) or "-", _until(leaf.not_valid_after_utc)]
        table.add_row(name, listener.address, *(escape(cell) for cell in cells))
        if name == "grpc" and config.server.grpc.unix_socket:
            table.add_row(name, escape(config.server.grpc.unix_socket), "plain (local)", "-", "-")
    return table


_CLIENTS = {
    (False, False): "TLS",
    (True, False): "mTLS optional",
    (True, True): "mTLS",
}
"""By whether clients are asked for a certificate, and whether they must have one."""


def _until(ends_at: datetime) -> str:
    days = (ends_at - now()).days
    return f"{ends_at:%Y-%m-%d} ({f'in {days} days' if days >= 0 else 'expired'})"
