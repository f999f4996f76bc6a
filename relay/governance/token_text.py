"""What a secret of ours looks like: `rtk_ID.SECRETCHECKSUM` for a virtual key, `rta_...` for an
administrator.

The kind is part of the text, so that scanners of leaked secrets know it and neither is taken for
the other. The id finds the record and is no secret; of the secret the database keeps a MAC. The
checksum tells a text that was cut or mistyped without looking anything up: it protects nothing.
"""

from __future__ import annotations

import re
import secrets
import zlib
from typing import Final, Literal

Kind = Literal["virtual key", "administrator"]
"""Also the purpose of the pepper (`relay.governance.pepper`) that its MAC is made for."""

PREFIXES: Final[dict[Kind, str]] = {"virtual key": "rtk_", "administrator": "rta_"}
ID_CHARACTERS: Final = 16
SECRET_CHARACTERS: Final = 43
"""256 bits."""
CHECKSUM_CHARACTERS: Final = 6
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = tuple(one + other for one in _ALPHABET for other in _ALPHABET)
"""Two digits of base 62 at once: this is done for every request."""
_KINDS: Final[dict[str, Kind]] = {prefix: kind for kind, prefix in PREFIXES.items()}
_FORM: Final = re.compile(
    r"(?P<prefix>rt[ka]_)(?P<id>[0-9A-Za-z]{16})\.(?P<secret>[0-9A-Za-z]{43})[0-9A-Za-z]{6}"
)


class TokenText:
    """The parts of a text that is whole; of whom it is, only its record can tell."""

    __slots__ = ("id", "kind", "secret")

    def __init__(self, kind: Kind, token_id: str, secret: str) -> None:
        self.kind: Final = kind
        self.id: Final = token_id
        self.secret: Final = secret

    @property
    def signed(self) -> str:
        """What the MAC in the database is of: the secret and whose it is."""
        return f"{self.id}.{self.secret}"

    def __repr__(self) -> str:
        return f"TokenText({PREFIXES[self.kind]}{self.id}.***)"


class Minted(TokenText):
    """A new one: `text` is shown to its owner once and kept nowhere."""

    __slots__ = ("text",)

    def __init__(self, kind: Kind, token_id: str, secret: str) -> None:
        super().__init__(kind, token_id, secret)
        head = f"{PREFIXES[kind]}{self.signed}"
        self.text: Final = head + checksum(head)

    @property
    def last4(self) -> str:
        """The end of the text, by which people find it again; of the checksum, so that it gives
        away a tenth of the secret's bits at most."""
        return self.text[-4:]


def mint(kind: Kind) -> Minted:
    """A new secret, from the system's random numbers."""
    return Minted(kind, _random(ID_CHARACTERS), _random(SECRET_CHARACTERS))


def read(text: str) -> TokenText | None:
    """The parts of a text; None if it is none of ours, or its checksum is another."""
    found = _FORM.fullmatch(text)
    if found is None or checksum(text[:-CHECKSUM_CHARACTERS]) != text[-CHECKSUM_CHARACTERS:]:
        return None
    return TokenText(_KINDS[found["prefix"]], found["id"], found["secret"])


def looks_like_one(text: str) -> bool:
    """Whether somebody who sends this means one of ours, whole or not."""
    return text.startswith(tuple(_KINDS))


def checksum(head: str) -> str:
    """CRC-32 of what is before it, in base 62: any single wrong character is found."""
    value, low = divmod(zlib.crc32(head.encode()), 3844)
    high, middle = divmod(value, 3844)
    return _PAIRS[high] + _PAIRS[middle] + _PAIRS[low]


def _random(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))
