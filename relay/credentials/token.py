"""Access tokens: what all that are fetched from a token endpoint have in common (RFC 6749)."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, NamedTuple

import orjson

from relay.credentials.ask import Answer, Ask
from relay.credentials.base import Call, CredentialState
from relay.credentials.schedule import RenewalSchedule
from relay.errors import CredentialUnavailable
from relay.transport.base import Headers

KEPT_TOKENS = 4
"""The newest, and those before it that requests under way may have sent."""
UNTOLD_LIFE_S = 300.0
"""Of a token whose endpoint does not say (RFC 6749, 5.1 recommends it)."""
FOREVER_S = 366 * 86_400.0
"""No token is believed to live longer."""
FORM_HEADERS: Headers = [("content-type", "application/x-www-form-urlencoded")]
"""Of what token endpoints are asked."""

_CODE = re.compile(r"(?=.{4,40}$)[a-z]+(_[a-z]+)+")
"""RFC 6749, 5.2, and what the clouds have added: words, and nothing that a secret could be."""
_ENTRA_CODE = re.compile(r"AADSTS\d{1,9}")


class AccessToken(NamedTuple):
    """As fetched."""

    value: str
    life_s: float
    """From `from_s` on."""
    from_s: float
    """Monotonic."""

    def __repr__(self) -> str:
        return f"AccessToken(***, life_s={self.life_s})"


class TokenCredential(ABC):
    """Sends the newest token as a bearer; see `relay.credentials.base.Renewing`.

    Args:
        source: where it comes from, for people.
        beside: headers that are sent with every token.
        secrets: what it is fetched with, where that is secret and of text.
        chance: uniform in [0, 1), for the schedule.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        source: str,
        *,
        beside: Headers | None = None,
        secrets: Sequence[str] = (),
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._source = source
        self._beside = beside or []
        self._secrets = tuple(secrets)
        self._schedule = RenewalSchedule(chance)
        self._sent: Headers = []
        self._tokens: deque[str] = deque(maxlen=KEPT_TOKENS)
        self._last_error = ""
        self._now_s: Callable[[], float] | None = None
        self.on_due: Callable[[], None] | None = None
        """Called when a renewal has become due by something else than time; its keeper's."""

    @abstractmethod
    async def _fetch(self, ask: Ask) -> AccessToken:
        """
        Raises:
            CredentialUnavailable: it was not given.
        """

    async def renew(self, ask: Ask) -> None:
        """See `Renewing.renew`."""
        self._now_s = ask.now_s
        try:
            token = await self._fetch(ask)
        except CredentialUnavailable as error:
            self._last_error = error.public_message
            self._schedule.failed(ask.now_s())
            raise
        is_new = not self._tokens or self._tokens[-1] != token.value
        if is_new:
            self._tokens.append(token.value)
            self._sent = [("authorization", f"Bearer {token.value}"), *self._beside]
        self._last_error = ""
        self._schedule.renewed(ask.now_s(), token.from_s, token.life_s, is_new=is_new)

    def due_s(self, now_s: float) -> float:
        """See `Renewing.due_s`."""
        return self._schedule.due_s(now_s)

    def headers(self, call: Call, wall_s: float) -> Headers:
        """See `Credential.headers`."""
        if self._now_s is None:
            raise CredentialUnavailable("no access token yet", retry_after_s=1.0)
        now_s = self._now_s()
        if self._schedule.is_usable(now_s):
            return self._sent
        raise self._unavailable(now_s, wall_s)

    def _unavailable(self, now_s: float, wall_s: float) -> CredentialUnavailable:
        wait_s = self._schedule.wait_s(now_s)
        ago_s = self._schedule.unusable_for_s(now_s)
        since = " yet"
        if ago_s is not None:
            at = datetime.fromtimestamp(wall_s - ago_s, UTC)
            since = f" since {at.strftime('%H:%M:%SZ')}"
        why = f" ({self._last_error})" if self._last_error else ""
        return CredentialUnavailable(
            f"no access token{since}{why}; next try in {wait_s:.0f} s", retry_after_s=wait_s
        )

    def wait_s(self, now_s: float) -> float:
        """See `Credential.wait_s`."""
        return self._schedule.wait_s(now_s)

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        """See `Credential.answered`. Other refusals than these two blame no token."""
        if status not in (401, 403):
            return False
        if sent and self._sent and sent != self._sent:
            return self._schedule.is_usable(now_s)
        if self._schedule.refused(now_s) and self.on_due is not None:
            self.on_due()
        return False

    def secrets(self) -> Sequence[str]:
        """See `Credential.secrets`."""
        return (*self._secrets, *self._tokens)

    def describe(self, now_s: float) -> CredentialState:
        """See `Credential.describe`."""
        return CredentialState(
            self.kind,
            self._source,
            self._schedule.expires_in_s(now_s),
            self._last_error,
            self._schedule.refreshes,
            self._schedule.failures,
        )


def token_in(answer: Answer, wall_s: float) -> AccessToken:
    """The token of an answer: `access_token`, `expires_in` or `expires_on`, numbers or texts.

    Args:
        wall_s: seconds since 1970 by this machine, where the answer has no date of its own.

    Raises:
        CredentialUnavailable: it is a refusal, or has no token; with the endpoint's own code and
            no other word of it.
    """
    told = _object_in(answer.body)
    if answer.status != 200:
        raise CredentialUnavailable(
            f"{answer.host} refused: {_code_in(told, answer.status)}",
            metadata={"status": str(answer.status)},
        )
    value = told.get("access_token")
    if not isinstance(value, str) or not value or not value.isascii() or not value.isprintable():
        raise CredentialUnavailable(f"{answer.host}: the answer holds no access token")
    life_s = _number(told.get("expires_in"))
    if life_s is None:
        ends_s = _number(told.get("expires_on"))
        at_s = wall_s if answer.date_s is None else answer.date_s
        life_s = UNTOLD_LIFE_S if ends_s is None else ends_s - at_s
    if life_s <= 0:
        raise CredentialUnavailable(f"{answer.host}: the token that was given is over")
    return AccessToken(value, min(life_s, FOREVER_S), answer.asked_s)


def _object_in(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return told if isinstance(told, dict) else {}


def _code_in(told: dict[str, Any], status: int) -> str:
    """The code of a refusal. What stands beside it may quote what we sent."""
    code = told.get("error")
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        return f"status {status}"
    text = told.get("error_description")
    entra = _ENTRA_CODE.match(text) if isinstance(text, str) else None
    return f"{code} ({entra[0]})" if entra else code


def _number(value: object) -> float | None:
    """Of a number, or of a text of digits as IMDS has it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) < 1e12 else None  # NaN is in no range
