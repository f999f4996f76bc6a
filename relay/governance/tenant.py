"""Who pays for a request, while the relay has no keys of its own: told by the bearer it came with.

A tenant's name must say nothing of the key, since it is logged: a keyed hash, of a key that this
process, or its supervisor for all workers, has drawn. So names hold until a restart; who wants the
same ones after it sets the variable.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

SALT_VARIABLE: Final = "RTRELAY_TENANT_SALT"
"""Of the environment: the key of the hash, as any text."""
_SCHEME: Final = "bearer"


class Tenants:
    """Gives bearers their names.

    Args:
        salt: key of the hash, any text; None for a fresh one.
    """

    __slots__ = ("_key",)

    def __init__(self, salt: str | None = None) -> None:
        text = salt or new_salt()
        self._key = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=32).digest()

    def name(self, authorization: str) -> str:
        """The tenant of an `authorization` header: `t_` and twelve hex digits, "" for none.

        The scheme's word does not matter to it, nor do spaces around the bearer.
        """
        scheme, _, rest = authorization.strip().partition(" ")
        bearer = rest.strip() if scheme.lower() == _SCHEME else authorization.strip()
        if not bearer:
            return ""
        digest = hashlib.blake2b(
            bearer.encode(errors="surrogateescape"), digest_size=6, key=self._key
        )
        return f"t_{digest.hexdigest()}"


def new_salt() -> str:
    """A fresh key, as text."""
    return secrets.token_hex(32)
