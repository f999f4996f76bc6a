"""Our own credentials, taken out of what a provider says before anybody sees it.

Some providers quote the key that they refuse, whole. A codec has seen the text before us: it cuts
long ones and masks what looks like a key without knowing ours (`relay.codecs.error_text`). So a
credential may be here whole, cut at the end of the text, or with its middle masked; all of that is
found, as are its percent-encoded, JSON-escaped and base64 forms. What remains of one are fewer than
`MIN_SECRET_CHARS` characters at its end or beginning.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from relay.errors import RelayError, UpstreamStatus

MIN_SECRET_CHARS: Final = 6
"""Shorter header values, and shorter pieces of longer ones, are words, not keys."""

_MASK: Final = "***"


def redact(error: RelayError, headers: Iterable[tuple[str, str]]) -> None:
    """Mask the credentials among these request headers in all public text of the error.

    Args:
        headers: lower-case names; those that an operator gave, since any may hold a secret.
    """
    forms = forms_of(headers)
    if not forms:
        return
    message = without(error.public_message, forms)
    if message != error.public_message:
        error.public_message = message
        error.args = (message,)
    for key, text in error.metadata.items():
        error.metadata[key] = without(text, forms)
    if isinstance(error, UpstreamStatus):
        for name in ("provider_type", "provider_code", "provider_param"):
            setattr(error, name, without(getattr(error, name), forms))


def forms_of(headers: Iterable[tuple[str, str]]) -> list[str]:
    """The credentials among request headers, in every form that a text may hold them in."""
    return [form for name, value in headers for form in _forms(_secret_of(name, value))]


def without(text: str, forms: Sequence[str]) -> str:
    """The text with every occurrence of these secrets masked, whole or in part (see the module)."""
    for form in forms:
        text = text.replace(form, _MASK)
    # What is left of a secret stands beside a mask that a codec has set, or at the end of the text,
    # where that mask may be cut as well.
    pieces = text.split(_MASK)
    last = len(pieces) - 1
    for index, piece in enumerate(pieces):
        for form in forms:
            if index > 0:
                piece = "" if _is_inside(piece, form) else piece[_end_of_suffix(piece, form) :]
            whole = piece.rstrip("*") if index == last else piece
            begin = _begin_of_prefix(whole, form)
            if begin < len(whole):
                piece = whole[:begin] + (_MASK if index == last else "")
        pieces[index] = piece
    return _MASK.join(pieces)


def _is_inside(text: str, secret: str) -> bool:
    return len(text) >= MIN_SECRET_CHARS and text in secret


def _begin_of_prefix(text: str, secret: str) -> int:
    """Where the longest beginning of the secret stands at the end of the text; its length if none
    does."""
    head = secret[:MIN_SECRET_CHARS]
    at = text.find(head, max(0, len(text) - len(secret)))
    while at >= 0:
        if secret.startswith(text[at:]):
            return at
        at = text.find(head, at + 1)
    return len(text)


def _end_of_suffix(text: str, secret: str) -> int:
    """Where the longest end of the secret, standing at the beginning of the text, is over; or 0."""
    tail = secret[-MIN_SECRET_CHARS:]
    at = text.rfind(tail, 0, len(secret))
    while at >= 0:
        end = at + MIN_SECRET_CHARS
        if secret.endswith(text[:end]):
            return end
        at = text.rfind(tail, 0, end - 1)
    return 0


_SHOWN: Final = frozenset({"x-amz-date"})
"""Beside a signature, and of use in a message that the clock is off."""


def _secret_of(name: str, value: str) -> str:
    if name in _SHOWN:
        return ""
    if value.startswith("AWS4-HMAC-SHA256 "):
        return value.rpartition("Signature=")[2]
    if name in ("authorization", "proxy-authorization"):
        return value.partition(" ")[2] or value
    return value.removeprefix("Bearer ")


@lru_cache(maxsize=256)
def _forms(secret: str) -> tuple[str, ...]:
    """How the secret may be written, longest first; nothing for one that is too short."""
    if len(secret) < MIN_SECRET_CHARS:
        return ()
    forms = {secret, quote(secret, safe=""), secret.replace("/", "\\/")}
    raw = secret.encode()
    for before in range(3):  # base64 of a longer text depends on where in it the secret is
        encoded = base64.b64encode(bytes(before) + raw).decode().rstrip("=")
        begin = (before * 8 + 5) // 6
        end = len(encoded) - (1 if (before + len(raw)) % 3 else 0)  # the last may hold more bits
        forms |= {encoded[begin:end], encoded[begin:end].replace("+", "-").replace("/", "_")}
    return tuple(sorted((form for form in forms if len(form) >= MIN_SECRET_CHARS), key=len)[::-1])
