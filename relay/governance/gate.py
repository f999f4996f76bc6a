"""Whether somebody may call at all: one question for every HTTP request and every RPC.

`OpenGate` lets everybody in and gives bearers names; `KeyGate` wants a key, or a client certificate
that stands for one. What a key may ask for is looked at later, for each generation (`grants`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

import structlog

from relay.deadline import Clock
from relay.errors import LimitReached, Unauthenticated
from relay.governance import token_text
from relay.governance.directory import Directory
from relay.governance.failure_throttle import FailureThrottle, address_of
from relay.governance.key_view import KeyView
from relay.governance.tenant import Tenants

_log = structlog.get_logger("relay.keys")

MISSING: Final = (
    "a key is needed: `authorization: Bearer rtk_...`, `x-api-key` or `api-key`, or a client"
    " certificate that stands for one"
)
_LOGGED_EVERY_S: Final = 10.0

OnDenied = Callable[[str, bool], object]
"""Told of a caller that is nobody: the address or the Unix socket it came from, and whether it
showed a certificate in place of a key; never waits, never raises."""


class Identity(NamedTuple):
    """Who calls."""

    tenant: str = ""
    """Who pays: the team; where there are no keys a name made of the bearer, "" without one."""
    key_id: str = ""
    """"" where there are no keys."""


class TooManyBadKeys(LimitReached):
    """From one address, or for one id: nothing is said about this one. A good key would have been
    let in."""

    @property
    def is_worth_another_try(self) -> bool:
        return False


class Gate(Protocol):
    """Asked in the loop's thread; never waits."""

    needs_keys: bool
    """Whether `identify` refuses those that have none."""

    @property
    def is_ready(self) -> bool:
        """Whether it can tell good keys from others yet."""
        ...

    def identify(self, bearer: str, names: Sequence[str] = (), peer: str = "") -> Identity:
        """
        Args:
            bearer: the secret, without the scheme's word; "" for none.
            names: of the client's certificate that was verified (`DNS:...`, `URI:...`).
            peer: address of the client, without its port.

        Raises:
            Unauthenticated: nobody that may call.
            TooManyBadKeys: the same, too often.
            StoreDown: that cannot be told now.
        """
        ...

    def view(self, key_id: str) -> KeyView | None:
        """What holds for a key now, for each generation; None where there are no keys.

        Raises:
            Unauthenticated: it may not call any more.
            StoreDown: that cannot be told any more.
        """
        ...


class OpenGate:
    """Of a relay without keys: any bearer will do, and tells tenants apart."""

    needs_keys = False
    is_ready = True

    def __init__(self, tenants: Tenants | None = None) -> None:
        self._tenants = tenants or Tenants()

    def identify(self, bearer: str, names: Sequence[str] = (), peer: str = "") -> Identity:
        return Identity(self._tenants.name(bearer))

    def view(self, key_id: str) -> None:
        return None


class KeyGate:
    """See the module."""

    needs_keys = True

    def __init__(
        self,
        directory: Directory,
        clock: Clock,
        now_us: Callable[[], int],
        on_denied: OnDenied = lambda _, __: None,
    ) -> None:
        """
        Args:
            clock: monotonic, seconds.
            now_us: microseconds since 1970.
            on_denied: told of each refusal, also where nothing came that could be a key.
        """
        self._directory = directory
        self._clock = clock
        self._now_us = now_us
        self.on_denied = on_denied
        self._throttle = FailureThrottle()
        self._logged_s = float("-inf")
        self._unlogged = 0

    @property
    def is_ready(self) -> bool:
        return self._directory.is_loaded

    def identify(self, bearer: str, names: Sequence[str] = (), peer: str = "") -> Identity:
        directory, now_us = self._directory, self._now_us()
        # SDKs want to send a key in any case: words of no meaning do not hide a certificate.
        is_by_name = bool(names) and not token_text.looks_like_one(bearer)
        if not bearer and not is_by_name:
            self.on_denied(address_of(peer), False)
            raise Unauthenticated(MISSING)
        try:
            if is_by_name:
                view = directory.identify_certificate(names, now_us)
            else:
                view = directory.identify(bearer, now_us)
        except Unauthenticated:
            self._denied(bearer, peer, is_by_name=is_by_name)
            raise
        return Identity(view.team_id, view.key_id)

    def view(self, key_id: str) -> KeyView:
        return self._directory.live(key_id, self._now_us())

    def _denied(self, bearer: str, peer: str, *, is_by_name: bool) -> None:
        """
        Raises:
            TooManyBadKeys: told in place of the refusal.
        """
        now_s, address = self._clock(), address_of(peer)
        self.on_denied(address, is_by_name)
        self._unlogged += 1
        if now_s - self._logged_s >= _LOGGED_EVERY_S:
            _log.warning("keys_refused", count=self._unlogged, last_from=address)
            self._logged_s, self._unlogged = now_s, 0
        token = token_text.read(bearer)
        wait_s = self._throttle.failed(f"address {address}", now_s)
        if token is not None:
            wait_s = max(wait_s, self._throttle.failed(f"id {token.id}", now_s))
        if wait_s:
            raise TooManyBadKeys("too many keys that are not valid", retry_after_s=wait_s)
