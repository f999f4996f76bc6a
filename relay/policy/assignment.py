"""Which arm a unit is in: by a hash, with no memory.

An arm is chosen by weighted rendezvous hashing: of each arm the unit has a number that is drawn
from the exponential distribution with the arm's weight as its rate, and the smallest wins. The
probability of an arm is its weight over all weights, exactly. When one weight is changed, units
move to that arm or from it, never between others, and no more of them than the shares differ; when
several are, the share that moves is at most 2d/(1+d), where d is the sum of the shares gained,
which no scheme without memory betters for three arms and more.

The unit's hash is salted with the experiment's name, so that arms of two experiments are
independent of each other; whether a unit takes part at all is a number of its own, so that a larger
`share` adds units and moves none.

Sources: Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998
(rendezvous); Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005 (the
logarithm); Bavarian et al., "On the optimality of correlated sampling", 2016 (the bound). The
mixing is Stafford's variant 13 of the finaliser of MurmurHash3, as in SplitMix64.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from math import log
from typing import Final

_MASK: Final = (1 << 64) - 1
_SCALE: Final = 2.0**-53
_TAKES_PART: Final = "\x00share"
"""No arm can have this name."""


class Division:
    """How the units of one experiment are divided; made once a configuration.

    Args:
        salt: the experiment's name.
        arms: name and weight of each, weights at least 0 and one above.
        share: of the units that take part.
    """

    __slots__ = ("_key", "_keyed", "_rows", "_share", "_share_seed")

    def __init__(self, salt: str, arms: Sequence[tuple[str, float]], share: float = 1.0) -> None:
        self._key = blake2b(salt.encode(), digest_size=32).digest()
        self._keyed = blake2b(key=self._key, digest_size=8)
        self._share = share
        self._share_seed = self._seed(_TAKES_PART)
        self._rows = tuple(
            (name, self._seed(name), 1.0 / weight) for name, weight in arms if weight > 0
        )

    def _seed(self, name: str) -> int:
        return int.from_bytes(blake2b(name.encode(), key=self._key, digest_size=8).digest(), "big")

    def place_of(self, unit: str) -> int:
        """Of a unit in this experiment: 64 bits, even over units."""
        keyed = self._keyed.copy()  # cheaper than to make it anew
        keyed.update(unit.encode("utf-8", "surrogatepass"))
        return int.from_bytes(keyed.digest(), "big")

    def takes_part(self, place: int) -> bool:
        """Whether a unit is in the experiment."""
        share = self._share
        return share >= 1.0 or _unit_interval(place ^ self._share_seed) < share

    def arm_of(self, place: int) -> str:
        """The arm of a unit that takes part."""
        found, least = "", float("inf")
        for name, seed, inverse in self._rows:
            clock = -log(_unit_interval(place ^ seed)) * inverse
            if clock < least:
                found, least = name, clock
        return found


def _unit_interval(x: int) -> float:
    """A number above 0 and at most 1, even over all x."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _MASK
    return (((x ^ (x >> 31)) >> 11) + 1) * _SCALE
