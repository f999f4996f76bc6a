"""How far a provider's clock is from ours, by the Date of its answers.

What is signed with a time (SigV4, the assertion of a Google service account) is refused where the
two clocks are minutes apart. A machine whose clock is off would then be shut out although its keys
are good; so times that are signed are told by the provider's clock.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate
from typing import Final

from relay.transport.base import Headers

NEAR_S: Final = 30.0
"""Less is no difference: a Date has whole seconds, and an answer was under way."""
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 2199
"""Of dates that are believed: what is signed has four digits for the year."""


class ClockOffset:
    """Of one provider. Reads an answer's Date only where its text is another one than before."""

    __slots__ = ("_seen", "offset_s")

    def __init__(self) -> None:
        self.offset_s = 0.0
        """Added to this machine's clock it is the provider's."""
        self._seen = ""

    def now_s(self, wall_s: float) -> float:
        """The provider's time, seconds since 1970, at `wall_s` of ours."""
        return wall_s + self.offset_s

    def observe(self, headers: Headers, wall_s: float, *, at_most_s: float | None = None) -> bool:
        """Take the Date of an answer that came at `wall_s`.

        Args:
            at_most_s: a Date that is further off than this from what was believed is not taken: an
                answer to a request that was accepted says that no more was amiss.

        Returns:
            Whether the provider's clock is believed to be elsewhere now.
        """
        value = next((value for name, value in headers if name == "date"), "")
        if not value or value == self._seen:
            return False
        self._seen = value
        date_s = _seconds_of(value)
        if date_s is None:
            return False
        off_s = abs(date_s - self.now_s(wall_s))
        if off_s <= NEAR_S or (at_most_s is not None and off_s > at_most_s):
            return False
        offset_s = date_s - wall_s
        self.offset_s = offset_s if abs(offset_s) > NEAR_S else 0.0
        return True


def date_in(headers: Headers) -> float | None:
    """The Date of an answer, seconds since 1970; None for none, and for one that cannot be."""
    return _seconds_of(next((value for name, value in headers if name == "date"), ""))


def _seconds_of(date: str) -> float | None:
    """Of an HTTP date (RFC 9110, section 5.6.7), which is in GMT whatever it says; None if it is
    none.

    The parser takes the 99999th of January. A clock that is believed to be there would be one that
    nothing can be signed by: then no request goes out, and no answer comes to set it right.
    """
    try:
        parts = parsedate(date[:64])
        if parts is None or not _FIRST_YEAR <= parts[0] <= _LAST_YEAR:
            return None
        return datetime(*parts[:6], tzinfo=UTC).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
