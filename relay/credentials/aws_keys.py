"""SigV4 with keys of the configuration, and what every credential that signs has in common.

A signature holds for about five minutes to either side of the service's clock. Where this machine's
is off, the Date of the refusal tells by how much, and the next try is signed by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Final

from relay.credentials.aws_sigv4 import AwsKeys, SigV4Signer, key_of, time_of
from relay.credentials.base import Call, CredentialState
from relay.credentials.clock_offset import ClockOffset
from relay.transport.base import Headers

if TYPE_CHECKING:
    from relay.config.credentials import AwsSigV4Config
    from relay.config.providers import ProviderConfig

WINDOW_S: Final = 300.0
"""How far the time of a signature may be off."""

_WORTH_S: Final = 120.0
"""Signed anew with a time that is nearer than this to the one before, it would be refused again."""


class SigningClock:
    """What a credential that signs learns of the service's clock."""

    __slots__ = ("_offset",)

    def __init__(self) -> None:
        self._offset = ClockOffset()

    def now_s(self, wall_s: float) -> float:
        """The service's time at `wall_s` of ours."""
        return self._offset.now_s(wall_s)

    def answered(self, status: int, headers: Headers, sent: Headers, wall_s: float) -> bool:
        """Learn of an answer; whether a signature that is made now has quite another time."""
        if status < 400:
            self._offset.observe(headers, wall_s, at_most_s=WINDOW_S)
            return False
        self._offset.observe(headers, wall_s)
        sent_s = time_of(sent)
        return sent_s is not None and abs(self.now_s(wall_s) - sent_s) > _WORTH_S


class AwsKeysCredential:
    """Signs with the same keys for ever."""

    kind: ClassVar[str] = "aws_sigv4"

    def __init__(self, signer: SigV4Signer, keys: AwsKeys) -> None:
        self._signer = signer
        self._keys = keys
        self._clock = SigningClock()

    def headers(self, call: Call, wall_s: float) -> Headers:
        return self._signer.headers(call, self._keys, self._clock.now_s(wall_s))

    def wait_s(self, now_s: float) -> float:
        return 0.0

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        return self._clock.answered(status, headers, sent, wall_s)

    def secrets(self) -> Sequence[str]:
        return self._keys.values()

    def describe(self, now_s: float) -> CredentialState:
        return CredentialState(self.kind, "keys")


def build(config: AwsSigV4Config, row: ProviderConfig) -> AwsKeysCredential:
    """
    Raises:
        ValueError: a key is missing.
    """
    if config.access_key_id is None or config.secret_access_key is None:
        raise ValueError("credential: access_key_id and secret_access_key are required")
    token = config.session_token
    keys = AwsKeys(
        config.access_key_id.get_secret_value(),
        config.secret_access_key.get_secret_value(),
        "" if token is None else token.get_secret_value(),
    )
    return AwsKeysCredential(SigV4Signer(config.service, row.region), keys)


def is_of(sent: Headers, keys: AwsKeys) -> bool:
    """Whether these headers were made with these keys."""
    if key_of(sent) != keys.access_key_id:
        return False
    token = next((value for name, value in sent if name == "x-amz-security-token"), "")
    return token == keys.session_token
