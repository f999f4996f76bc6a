"""Keys that do not change: the header style is the row's, and of several the first that serves is
used.

A key that is refused, or whose account is used up, is left alone for a minute, and longer each time
that this happens again; meanwhile the others serve. Where all are refused the one that is due first
is tried, so that a row is never without a key.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from relay.credentials.base import Call, CredentialState
from relay.transport.base import Headers

if TYPE_CHECKING:
    from relay.config.credentials import StaticConfig
    from relay.config.providers import ProviderConfig

FIRST_QUARANTINE_S: Final = 60.0
LONGEST_QUARANTINE_S: Final = 3600.0


class _Refusal:
    """A key that was refused, until it serves again."""

    __slots__ = ("times", "until_s")

    def __init__(self) -> None:
        self.times = 0
        self.until_s = 0.0
        """Seconds since 1970, by this machine."""

    def again(self, wall_s: float) -> None:
        """Refused once more. Requests that were under way with it meanwhile tell nothing new."""
        if self.left_s(wall_s) > 0:
            return
        length_s = min(FIRST_QUARANTINE_S * 2.0 ** min(self.times, 16), LONGEST_QUARANTINE_S)
        self.times += 1
        self.until_s = wall_s + length_s

    def left_s(self, wall_s: float) -> float:
        """How long it is left alone; a clock that went back does not make that longer."""
        left_s = self.until_s - wall_s
        return left_s if 0.0 < left_s <= LONGEST_QUARANTINE_S else 0.0


class StaticCredential:
    """Keys in the header that the provider wants; no header without a key."""

    kind: ClassVar[str] = "static"

    def __init__(self, keys: Sequence[str], auth: str, *, spread: bool = False) -> None:
        """
        Args:
            auth: `bearer`, `none`, or the name of the header that takes the bare key.
            spread: each session has a key of its own choice, and the same one for all its turns;
                else all begin with the first.
        """
        self._keys = tuple(dict.fromkeys(keys)) if auth != "none" else ()
        self._sent: list[Headers] = [
            [("authorization", f"Bearer {key}") if auth == "bearer" else (auth, key)]
            for key in self._keys
        ] or [[]]
        self._spread = spread and len(self._keys) > 1
        self._refused: dict[int, _Refusal] = {}
        """By the key's place."""

    def headers(self, call: Call, wall_s: float) -> Headers:
        begin = 0
        if self._spread and call.session:
            begin = zlib.crc32(call.session.encode("utf-8", "surrogatepass")) % len(self._keys)
        if not self._refused:
            return self._sent[begin]
        return self._sent[self._serving(begin, wall_s)]

    def _serving(self, begin: int, wall_s: float) -> int:
        """The first key from `begin` on that is not left alone, so that of a refused key alone the
        sessions move; else the one that is due first."""
        places = [(begin + step) % len(self._keys) for step in range(len(self._keys))]
        for place in places:
            refusal = self._refused.get(place)
            if refusal is None or refusal.left_s(wall_s) == 0.0:
                return place
        return min(places, key=lambda place: self._refused[place].left_s(wall_s))

    def wait_s(self, now_s: float) -> float:
        return 0.0

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        if len(self._keys) < 2 or (status < 400 and not self._refused) or sent not in self._sent:
            return False
        place = self._sent.index(sent)
        if status < 400:
            refusal = self._refused.get(place)
            if refusal is not None and refusal.left_s(wall_s) == 0.0:
                del self._refused[place]
            return False
        self._refused.setdefault(place, _Refusal()).again(wall_s)
        # Whoever is refused with all of them has had his answer.
        other = self._refused.get(self._serving(place, wall_s))
        return other is None or other.left_s(wall_s) == 0.0

    def secrets(self) -> Sequence[str]:
        return self._keys

    def describe(self, now_s: float) -> CredentialState:
        refused, keys = len(self._refused), len(self._keys)
        error = f"{refused} of {keys} keys refused lately" if refused else ""
        return CredentialState(self.kind, last_error=error)


def build(config: StaticConfig, row: ProviderConfig) -> StaticCredential:
    """Of a row's keys."""
    keys = [key.get_secret_value() for key in config.api_keys]
    return StaticCredential(keys, row.auth, spread=config.spread_keys)
