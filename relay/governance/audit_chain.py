"""What an audit entry is, and the chain that entries are links of.

Every entry has a number, one more than the last one's, and a message authentication code (MAC):
HMAC-SHA256 (RFC 2104, FIPS 180-4) over its canonical bytes, which hold the MAC of the entry before.
Who has no key can change, put in, take out or swap no entry without its MAC, or its successor's,
telling. Two things a chain alone cannot show: that its end was cut off, and that somebody with the
key wrote all of it anew. For these there are anchors: number and MAC of the last entry, kept where
the database's owner cannot write.

The canonical bytes of format 1, integers big-endian:

    "rtrelay audit 1\\n"            16 bytes
    number, moment                 8 bytes each, signed; microseconds since 1970
    lengths of the six texts       4 bytes each
    actor, action, subject, organisation, outcome, detail     UTF-8
    MAC of the entry before        32 bytes; zeros before the first

Lengths come before texts, so that no two entries have the same bytes; another format would have
another first line. `detail` is JSON with sorted keys, and is signed as the text that it is.

Pure: no clock, no database, no file.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

import orjson

GENESIS: Final = bytes(32)
"""The MAC before the first entry."""
MIN_KEY_CHARS: Final = 32

MAX_ACTOR_CHARS: Final = 160
MAX_ACTION_CHARS: Final = 64
MAX_SUBJECT_CHARS: Final = 255
MAX_ORGANISATION_CHARS: Final = 32
MAX_OUTCOME_CHARS: Final = 16
MAX_DETAIL_BYTES: Final = 4096
"""Of its JSON; more is cut text by text (`canonical_detail`)."""

_DOMAIN: Final = b"rtrelay audit 1\n"
_ANCHOR_DOMAIN: Final = b"rtrelay anchor 1\n"
_pack_head = struct.Struct(">16sqq6I").pack
_pack_anchor = struct.Struct(">17sqq").pack


class AuditKey:
    """Signs entries and anchors, each with a key of its own (HKDF-Expand, RFC 5869).

    Args:
        secret: 32 bytes that serve no other purpose: `Pepper.key("audit")`.

    Raises:
        ValueError: it has another length.
    """

    __slots__ = ("_anchors", "_entries", "id")

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise ValueError("the secret of an audit key has 32 bytes")
        self._entries = _expand(secret, b"entries")
        self._anchors = _expand(secret, b"anchors")
        self.id = _expand(secret, b"id").hex()[:8]
        """Says which key it is and nothing of it."""

    @classmethod
    def from_text(cls, text: str) -> AuditKey:
        """The key of an operator's own text (`audit.key`).

        Raises:
            ValueError: the text has fewer than 32 characters.
        """
        if len(text) < MIN_KEY_CHARS:
            raise ValueError(f"at least {MIN_KEY_CHARS} characters are needed")
        return cls(hmac.digest(b"rtrelay audit.key", text.encode(), "sha256"))

    def __repr__(self) -> str:
        return f"AuditKey({self.id})"

    def __reduce__(self) -> str:
        raise TypeError("an audit key is not to be pickled")

    def mac(self, seq: int, entry: Entry, previous: bytes) -> bytes:
        """The MAC of an entry. May raise what `canonical` raises."""
        return hmac.digest(self._entries, canonical(seq, entry, previous), "sha256")

    def anchor_mac(self, at_us: int, seq: int, mac: bytes) -> bytes:
        """The MAC of an anchor."""
        return hmac.digest(self._anchors, _pack_anchor(_ANCHOR_DOMAIN, at_us, seq) + mac, "sha256")


def _expand(secret: bytes, purpose: bytes) -> bytes:
    return hmac.digest(secret, b"rtrelay audit " + purpose + b"\x01", "sha256")


class Entry(NamedTuple):
    """What somebody did or was refused. Make it with `entry`, which keeps it within its bounds."""

    at_us: int
    """Microseconds since 1970."""
    actor: str
    """`KIND:ID`: an administrator, a key, an address; `relay` for the relay itself."""
    action: str
    """One of `relay.governance.audit_actions`."""
    subject: str
    """What it was done to."""
    organisation_id: str
    """Whose it is; "" for nobody's."""
    outcome: str
    """done, denied, failed"""
    detail: str
    """JSON with sorted keys."""


class Row(NamedTuple):
    """An entry in its place: a row of the table `audit`."""

    seq: int
    entry: Entry
    previous: bytes
    mac: bytes


class Head(NamedTuple):
    """The end of a chain: how many entries there are, and the MAC of the last."""

    seq: int
    mac: bytes


EMPTY: Final = Head(0, GENESIS)


class Anchor(NamedTuple):
    """A head that was seen at a moment, signed: what is kept outside the database."""

    at_us: int
    seq: int
    mac: bytes
    key_id: str
    proof: bytes
    """Its own MAC."""

    @classmethod
    def of(cls, head: Head, at_us: int, key: AuditKey) -> Anchor:
        return cls(at_us, head.seq, head.mac, key.id, key.anchor_mac(at_us, head.seq, head.mac))

    def is_by(self, key: AuditKey) -> bool:
        """Whether this key has signed it."""
        return hmac.compare_digest(self.proof, key.anchor_mac(self.at_us, self.seq, self.mac))


def canonical(seq: int, entry: Entry, previous: bytes) -> bytes:
    """The bytes that are signed (see the module).

    Raises:
        AttributeError, TypeError, struct.error, UnicodeError: what a database holds is no entry.
    """
    texts = [text.encode(errors="surrogateescape") for text in entry[1:]]
    lengths = map(len, texts)
    return b"".join((_pack_head(_DOMAIN, seq, entry.at_us, *lengths), *texts, previous))


def seal(head: Head, entries: Iterable[Entry], key: AuditKey) -> list[Row]:
    """The entries as the next links of the chain that ends in `head`."""
    rows: list[Row] = []
    seq, previous = head
    for entry in entries:
        seq += 1
        mac = key.mac(seq, entry, previous)
        rows.append(Row(seq, entry, previous, mac))
        previous = mac
    return rows


# --- making entries ---------------------------------------------------------------------------

Hide = Callable[[str], str]
"""Takes secrets out of a text (`relay.governance.known_secrets`)."""


def entry(
    action: str,
    *,
    at_us: int,
    actor: str,
    subject: str = "",
    organisation_id: str = "",
    outcome: str = "done",
    detail: Mapping[str, object] | None = None,
    hide: Hide = str,
) -> Entry:
    """An entry that both databases take.

    Secrets are hidden first, then texts are cut to their columns (half a secret would not be
    found), and characters that cannot be printed become U+FFFD: callers choose some of the texts.
    """
    return Entry(
        at_us,
        _clean(actor, MAX_ACTOR_CHARS, hide),
        _clean(action, MAX_ACTION_CHARS, hide),
        _clean(subject, MAX_SUBJECT_CHARS, hide),
        _clean(organisation_id, MAX_ORGANISATION_CHARS, hide),
        _clean(outcome, MAX_OUTCOME_CHARS, hide),
        canonical_detail(detail, hide) if detail else "{}",
    )


def canonical_detail(detail: Mapping[str, object], hide: Hide = str) -> str:
    """JSON with sorted keys and without spaces, of at most `MAX_DETAIL_BYTES`.

    Texts are cut to 512 characters, and all to ever fewer until it fits; in the end `{"cut":true}`
    is left. What JSON has no word for is told by its type's name.
    """
    for most_chars in (512, 64, 16):
        plain = _plain(detail, _Bounds(most_chars, hide), 0)
        data = orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
        if len(data) <= MAX_DETAIL_BYTES:
            return data.decode()
    return '{"cut":true}'


class _Bounds(NamedTuple):
    most_chars: int
    hide: Hide


_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 100
_MAX_UNHIDDEN_CHARS: Final = 8192
"""Of a longer text no more is looked through for secrets, and none of the rest is kept."""


def _plain(value: object, bounds: _Bounds, depth: int) -> object:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if -(2**53) < value < 2**53 else str(value)
    if isinstance(value, str):
        return _clean(value, *bounds)
    if depth == _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        items = list(value.items())[:_MAX_ITEMS]
        return {_clean(str(name), *bounds): _plain(one, bounds, depth + 1) for name, one in items}
    if isinstance(value, list | tuple | set | frozenset):
        some = list(value) if isinstance(value, list | tuple) else sorted(value, key=str)
        return [_plain(one, bounds, depth + 1) for one in some[:_MAX_ITEMS]]
    return f"<{type(value).__name__}>"


def _clean(text: str, most_chars: int, hide: Hide) -> str:
    text = hide(text[:_MAX_UNHIDDEN_CHARS])[:most_chars]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else "\ufffd" for char in text)
