"""Keys that do not change: the header style is the row's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from relay.credentials.base import Call, CredentialState
from relay.transport.base import Headers

if TYPE_CHECKING:
    from relay.config.credentials import StaticConfig
    from relay.config.providers import ProviderConfig


class StaticCredential:
    """The first key, in the header that the provider wants; no header without a key."""

    kind: ClassVar[str] = "static"

    def __init__(self, keys: Sequence[str], auth: str) -> None:
        """
        Args:
            auth: `bearer`, `none`, or the name of the header that takes the bare key.
        """
        self._keys = tuple(keys) if auth != "none" else ()
        self._sent: Headers = []
        if self._keys:
            key = self._keys[0]
            self._sent = [("authorization", f"Bearer {key}") if auth == "bearer" else (auth, key)]

    def headers(self, call: Call, wall_s: float) -> Headers:
        return self._sent

    def wait_s(self, now_s: float) -> float:
        return 0.0

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        return False

    def secrets(self) -> Sequence[str]:
        return self._keys

    def describe(self, now_s: float) -> CredentialState:
        return CredentialState(self.kind)


def build(config: StaticConfig, row: ProviderConfig) -> StaticCredential:
    """Of a row's keys."""
    return StaticCredential([key.get_secret_value() for key in config.api_keys], row.auth)
