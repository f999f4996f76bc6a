"""How often one address, or one id of a key, may be wrong before it is told to wait.

Guessing a secret of 256 bits is hopeless at any rate; this keeps those who try from filling logs
and audit. A good key is never asked about: whoever has one gets in beside them, so nobody is locked
out by what others send from his address. In front of a proxy all its clients are one address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache
from typing import Final

BURST: Final = 20
"""Failures on end; a client with an old key tries a few times in as many seconds."""
PER_S: Final = 0.5
"""After those."""
MAX_NAMES: Final = 4096
"""Who failed longest ago is forgotten first."""


class FailureThrottle:
    """One bucket a name, in bounded memory."""

    def __init__(
        self, burst: float = BURST, per_s: float = PER_S, max_names: int = MAX_NAMES
    ) -> None:
        self._burst = burst
        self._per_s = per_s
        self._max_names = max_names
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """How many more may fail, and when that was so."""

    def __len__(self) -> int:
        return len(self._levels)

    def failed(self, name: str, now_s: float) -> float:
        """Count a failure.

        Returns:
            Seconds to wait before the next one, 0 while there may be more.
        """
        level, at_s = self._levels.pop(name, (self._burst, now_s))
        level = min(self._burst, level + max(0.0, now_s - at_s) * self._per_s)
        wait_s = 0.0
        if level >= 1:
            level -= 1
        else:
            wait_s = (1 - level) / self._per_s
        self._levels[name] = (level, now_s)
        if len(self._levels) > self._max_names:
            self._levels.popitem(last=False)
        return wait_s


@lru_cache(maxsize=1024)
def address_of(peer: str) -> str:
    """Of an address, what one who guesses cannot easily change: of IPv6 the first 64 bits, which
    one subscriber has. What is no address is its own name (a Unix socket's)."""
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return peer
    if address.version == 6:
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
    return peer
