"""What the emulated clouds have handed out, and whether it still counts.

Access tokens of Google and Entra, and AWS key pairs with or without a session token. A token that
was never handed out here is unknown, and each may be revoked, or run out by the emulator's clock,
which the script can put ahead of or behind this machine's.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import orjson

ACCESS_KEY_ID = "AKIAEMULATOR00000000"
SECRET_ACCESS_KEY = "emulator/SecretAccessKey+0000000000000000"  # noqa: S105 - published on purpose
"""A pair without a session that is always there, as a user's own keys are."""

MAX_KEPT = 10_000
"""Newest tokens and pairs; the oldest are unknown again."""

Kind = Literal["google", "entra"]
State = Literal["", "expired", "revoked", "unknown"]
"""Why it does not count; empty if it does."""


class CloudClock:
    """The clouds' wall clock: this machine's and an offset."""

    def __init__(self) -> None:
        self.skew_s = 0.0

    def wall_s(self) -> float:
        """Seconds since 1970."""
        return time.time() + self.skew_s


@dataclass(slots=True)
class Token:
    """One access token."""

    value: str
    kind: Kind
    audience: str
    """The resource of an Entra token, such as `https://cognitiveservices.azure.com`."""
    expires_s: float
    """By the emulator's clock."""
    is_revoked: bool = False


@dataclass(slots=True)
class AwsKeys:
    """One pair, with a session token unless it is a user's own."""

    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    expires_s: float = float("inf")
    is_revoked: bool = False


class CloudKeys:
    """All of them."""

    def __init__(self, clock: CloudClock) -> None:
        self.clock = clock
        self._tokens: OrderedDict[str, Token] = OrderedDict()
        self._pairs: OrderedDict[str, AwsKeys] = OrderedDict()
        self._revoked_keys: set[str] = set()
        self.reset()

    def reset(self) -> None:
        """Forget everything but the pair that is always there."""
        self._tokens.clear()
        self._pairs.clear()
        self._revoked_keys.clear()
        self._pairs[ACCESS_KEY_ID] = AwsKeys(ACCESS_KEY_ID, SECRET_ACCESS_KEY)

    # --- handing out --------------------------------------------------------------------------

    def issue(self, kind: Kind, expires_in_s: float, audience: str = "") -> Token:
        """A new access token."""
        expires_s = self.clock.wall_s() + expires_in_s
        value = f"ya29.emu-{secrets.token_urlsafe(24)}"
        if kind == "entra":
            value = _looking_like_jwt(audience, expires_s)
        token = self._tokens[value] = Token(value, kind, audience, expires_s)
        _trim(self._tokens)
        return token

    def issue_pair(self, expires_in_s: float | None) -> AwsKeys:
        """A new pair; with a session token if it runs out."""
        number = secrets.token_hex(8).upper()
        secret = secrets.token_urlsafe(30)
        if expires_in_s is None:
            keys = AwsKeys(f"AKIA{number}", secret)
        else:
            session = f"IQoJb3JpZ2lu/{secrets.token_urlsafe(48)}=="
            keys = AwsKeys(f"ASIA{number}", secret, session, self.clock.wall_s() + expires_in_s)
        self._pairs[keys.access_key_id] = keys
        _trim(self._pairs)
        return keys

    # --- judging ------------------------------------------------------------------------------

    def token_state(self, value: str, kind: Kind) -> State:
        """Whether an access token counts."""
        token = self._tokens.get(value)
        if token is None or token.kind != kind:
            return "unknown"
        if token.is_revoked:
            return "revoked"
        return "expired" if token.expires_s <= self.clock.wall_s() else ""

    def audience(self, value: str) -> str:
        """What an access token is for; empty if it is unknown."""
        token = self._tokens.get(value)
        return token.audience if token is not None else ""

    def pair(self, access_key_id: str) -> AwsKeys | None:
        """The pair of that id, whether it counts or not."""
        return self._pairs.get(access_key_id)

    def is_key_revoked(self, key: str) -> bool:
        """Whether an API key, which nobody hands out here, was taken back."""
        return key in self._revoked_keys

    # --- taking back --------------------------------------------------------------------------

    def revoke(self, value: str) -> int:
        """Revoke a token, a pair by its id, or an API key.

        Returns:
            How many were handed out here: 0 for an API key.
        """
        found: list[Token | AwsKeys] = [
            each for each in (self._tokens.get(value), self._pairs.get(value)) if each is not None
        ]
        for each in found:
            each.is_revoked = True
        if not found:
            self._revoked_keys.add(value)
        return len(found)

    def revoke_all(self, kind: str) -> int:
        """Revoke all of `google`, `entra` or `aws`, or of every kind (`*`)."""
        count = 0
        for each in self._issued(kind):
            count += not each.is_revoked
            each.is_revoked = True
        return count

    def summary(self) -> dict[str, int]:
        """How many of each kind are known."""
        kinds = ("google", "entra", "aws")
        return {kind: sum(1 for _ in self._issued(kind)) for kind in kinds}

    def _issued(self, kind: str) -> Iterator[Token | AwsKeys]:
        yield from (token for token in self._tokens.values() if kind in (token.kind, "*"))
        if kind in ("aws", "*"):
            yield from (keys for keys in self._pairs.values() if keys.session_token)


def _looking_like_jwt(audience: str, expires_s: float) -> str:
    claims = {"aud": audience, "exp": int(expires_s), "jti": secrets.token_hex(12)}
    parts = (orjson.dumps({"typ": "JWT", "alg": "RS256"}), orjson.dumps(claims))
    signature = secrets.token_urlsafe(32)
    return ".".join([base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts]) + (
        f".{signature}"
    )


def _trim(kept: OrderedDict[str, Token] | OrderedDict[str, AwsKeys]) -> None:
    if len(kept) > MAX_KEPT:
        kept.popitem(last=False)
