"""From a row of the configuration to its credential: one builder a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from relay.config.credentials import AwsSigV4Config
from relay.config.providers import ProviderConfig
from relay.credentials import aws_chain, aws_keys, entra, google_default, static
from relay.credentials.base import Call, Credential, CredentialState, Renewing
from relay.errors import CredentialUnavailable
from relay.transport.base import Headers


def _aws(config: AwsSigV4Config, row: ProviderConfig) -> Credential:
    if config.source == "chain":
        return aws_chain.build(config, row)
    return aws_keys.build(config, row)


BUILDERS: Mapping[str, Callable[[Any, ProviderConfig], Credential]] = {
    "static": static.build,
    "google": google_default.build,
    "azure_entra": entra.build,
    "aws_sigv4": _aws,
}
"""Kind -> its builder, called with the kind's own configuration and the row that it is of; raises
ValueError for what cannot be used, without secrets in the text."""


def build(row: ProviderConfig) -> Credential:
    """A credential of its own for a row. Those that must be fetched have nothing yet.

    Raises:
        ValueError: as of `BUILDERS`, or the kind is not there.
    """
    config = row.credentials
    builder = BUILDERS.get(config.kind)
    if builder is None:
        raise ValueError(f"credential.kind: {config.kind} is not there in this version")
    return builder(config, row)


class Unkept:
    """Stands for a credential that needs somebody to fetch it where nobody does: in a catalog that
    is looked at (`relay check`, replays) and sends nothing."""

    kind: ClassVar[str] = "unkept"

    def __init__(self, kind: str, source: str) -> None:
        self._state = CredentialState(kind, source, last_error="not fetched here")

    def headers(self, call: Call, wall_s: float) -> Headers:
        raise CredentialUnavailable("no credential is fetched here")

    def wait_s(self, now_s: float) -> float:
        return 1.0

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        return False

    def secrets(self) -> Sequence[str]:
        return ()

    def describe(self, now_s: float) -> CredentialState:
        return self._state


def without_desk(row: ProviderConfig) -> Credential:
    """As of `build` for what is whole in the configuration; what must be fetched waits for ever,
    but is looked at, so that a file that is none is found.

    Raises:
        ValueError: as of `build`.
    """
    credential = build(row)
    if not isinstance(credential, Renewing):
        return credential
    config = row.credentials
    return Unkept(config.kind, str(getattr(config, "source", "")))
