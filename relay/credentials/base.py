"""What every credential looks like to whoever sends a request: no sockets, no waiting.

A credential is asked for headers at the moment of sending and answers at once, out of what it
has. What must be fetched is fetched beside requests, by the desk that keeps it
(`relay.credentials.desk`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from relay.transport.base import Headers, Origin

if TYPE_CHECKING:
    from relay.config.providers import ProviderConfig


class Call(NamedTuple):
    """A request as it will be sent, all but its credential: what a signature is made over."""

    method: str
    origin: Origin
    path: str
    """Path and query, the provider's base path included."""
    headers: Headers
    """Lower-case names; the row's own are among them."""
    body: bytes
    session: str = ""
    """Of the session it is a turn of: what keeps its turns at one key of several."""

    def __repr__(self) -> str:
        return f"Call({self.method} {self.origin.url})"


class CredentialState(NamedTuple):
    """For people and metrics; holds no secret."""

    kind: str
    source: str = ""
    """Where it comes from: `service_account`, `chain`, ...; empty where the kind says all."""
    expires_in_s: float | None = None
    """None: it does not expire, or there is none."""
    last_error: str = ""
    """Of the last renewal, public text; empty after one that went well."""
    refreshes: int = 0
    """Renewals that went well."""
    failures: int = 0
    """Renewals that did not, since the start."""


class Credential(Protocol):
    """Makes the headers that say who asks. One object serves all requests of its configuration."""

    kind: ClassVar[str]

    def headers(self, call: Call, wall_s: float) -> Headers:
        """What is sent beside the call's own headers. Never waits.

        Args:
            wall_s: seconds since 1970, by this machine's clock.

        Raises:
            CredentialUnavailable: there is none now.
        """
        ...

    def wait_s(self, now_s: float) -> float:
        """0 if usable now; else seconds until it is tried again, 0.001 at least.

        Args:
            now_s: monotonic.
        """
        ...

    def answered(
        self, status: int, headers: Headers, sent: Headers, wall_s: float, now_s: float
    ) -> bool:
        """Told of each answer's head, so that it learns of a refusal or of a clock that is off.

        Args:
            headers: of the answer.
            sent: what `headers` gave for this request.

        Returns:
            Whether another try would be sent otherwise, and so be worth it.
        """
        ...

    def secrets(self) -> Sequence[str]:
        """Every value that is valid or lately was, to be masked where a provider quotes it."""
        ...

    def describe(self, now_s: float) -> CredentialState:
        """As of now."""
        ...


@runtime_checkable
class Renewing(Credential, Protocol):
    """One that has to be fetched, and again before it ends."""

    async def renew(self, ask: Any) -> None:
        """Fetch once; the new value takes the old one's place in one step.

        Args:
            ask: makes one bounded request (`relay.credentials.ask.Ask`).

        Raises:
            CredentialUnavailable: it was not given; the old value serves on until its end.
        """
        ...

    def due_s(self, now_s: float) -> float:
        """Seconds until it should be renewed; 0: now."""
        ...


class Desk(Protocol):
    """Who keeps the credentials of a process (`relay.credentials.desk.CredentialDesk`)."""

    def of(self, row: ProviderConfig) -> Credential:
        """The credential of a row: for the same configuration the same object, so that a reload
        fetches nothing.

        Raises:
            ValueError: it cannot be made of this configuration; says why, without secrets.
        """
        ...
