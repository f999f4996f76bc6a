"""What of a request is compared by meaning, and what must be the same: see `semantic`."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import NamedTuple

from relay.cache.base import CacheScope
from relay.cache.guard_text import readable
from relay.cache.key import Share, key_of
from relay.content import GenerateRequest, Role, TextPart

PARTITION_BYTES = 24
MAX_REQUEST_BYTES = 1024 * 1024
"""Of all that must be the same; a larger request is not looked up."""


class LastTurn(NamedTuple):
    """A request as the semantic cache sees it."""

    partition: bytes
    """Digest of the tenant's scope, the route, the configuration's version, the embedder, and of
    everything in the request but the text below: answers are only compared within it."""
    text: str
    """Of the last user turn, as `readable` gives it."""


def last_turn(
    request: GenerateRequest,
    scope: CacheScope,
    *,
    share: Share,
    epoch: int,
    embedder: str,
    max_chars: int,
) -> LastTurn | None:
    """None for a request that is not looked up: its last message is not one text of the user's, or
    a text that hides something (`guard_text.readable`), or its answer must not be kept."""
    if not request.messages or request.embedding is not None:
        return None
    message = request.messages[-1]
    if message.role is not Role.USER or len(message.parts) != 1:
        return None
    part = message.parts[0]
    if type(part) is not TextPart or message.native is not None or message.extra:
        return None
    text = readable(part.text, max_chars=max_chars)
    if text is None:
        return None
    without = replace(message, parts=(replace(part, text=""),))
    key = key_of(
        replace(request, messages=(*request.messages[:-1], without)),
        scope,
        share=share,
        epoch=epoch,
        max_bytes=MAX_REQUEST_BYTES,
    )
    if key is None:
        return None
    digest = hashlib.blake2b(key, digest_size=PARTITION_BYTES, person=b"rtrelay meaning")
    digest.update(embedder.encode())
    return LastTurn(digest.digest(), text)
