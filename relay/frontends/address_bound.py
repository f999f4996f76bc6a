"""How many connections one address may have open at a listener.

Somebody alone could otherwise have all the descriptors there are. Of IPv6, 64 bits are one address:
that is what a household, or a rented machine, is given. Proxies that speak for many are no single
caller: this machine's own addresses are not counted unless the operator says so, and behind a
proxy that he vouches for nobody is.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Final

import structlog

from relay.config import HttpListener

_log = structlog.get_logger("relay.http")

MOST_OF_ADDRESS: Final = 256
TOLD_EVERY_S: Final = 60.0


class AddressBound:
    """Of one listener."""

    def __init__(self, most: int, *, counts_loopback: bool, clock: Callable[[], float]) -> None:
        """
        Args:
            most: 0 for any number.
            counts_loopback: whether this machine's own addresses have a bound.
        """
        self._most = most
        self._counts_loopback = counts_loopback
        self._clock = clock
        self._open: dict[str, int] = {}
        self._told_s = float("-inf")

    @classmethod
    def of(cls, listener: HttpListener, clock: Callable[[], float]) -> AddressBound:
        """As a listener's configuration says."""
        most = listener.max_connections_per_address
        if most is not None:
            return cls(most, counts_loopback=True, clock=clock)
        most = 0 if listener.proxy_terminates_tls else MOST_OF_ADDRESS
        return cls(most, counts_loopback=False, clock=clock)

    def take(self, host: str) -> str | None:
        """One more of an address: what is to be given back when it is closed (empty for what is not
        counted), or None where there are too many."""
        if not self._most or not host:
            return ""
        name = self._name(host)
        if not name:
            return ""
        count = self._open.get(name, 0)
        if count >= self._most:
            self._tell(name)
            return None
        self._open[name] = count + 1
        return name

    def give(self, name: str) -> None:
        """One is closed; `name` is what `take` returned."""
        if not name:
            return
        count = self._open[name] - 1
        if count:
            self._open[name] = count
        else:
            del self._open[name]

    def _name(self, host: str) -> str:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:  # a Unix socket's
            return ""
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        if address.is_loopback and not self._counts_loopback:
            return ""
        if isinstance(address, ipaddress.IPv6Address):
            return f"{ipaddress.IPv6Address(int(address) >> 64 << 64)}/64"
        return str(address)

    def _tell(self, name: str) -> None:
        now_s = self._clock()
        if now_s - self._told_s >= TOLD_EVERY_S:
            self._told_s = now_s
            _log.warning(
                "connections_refused",
                address=name,
                bound=self._most,
                setting="server.http.max_connections_per_address",
            )
