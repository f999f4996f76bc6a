"""Why a panel has no answer."""

from __future__ import annotations

from collections.abc import Sequence

from relay.errors import AllAttemptsFailed, RelayError, Retry, UpstreamError, shown


class TooFewAnswers(AllAttemptsFailed):
    """Fewer members answered than are needed.

    Args:
        name: of the panel.
        asked, answered, needed: how many members.
        failures: by label and alias, in the order of the members; at least one.
    """

    def __init__(
        self,
        name: str,
        *,
        asked: int,
        answered: int,
        needed: int,
        failures: Sequence[tuple[str, RelayError]],
    ) -> None:
        super().__init__([error for _, error in failures])
        causes = "; ".join(f"{member}: {shown(error.public_message)}" for member, error in failures)
        self._say(
            f"panel {name!r}: {answered} of {asked} members answered, {needed} needed ({causes})"
        )

    def _say(self, message: str) -> None:
        self.args = (message,)
        self.public_message = message


class NoAgreement(UpstreamError):
    """The members answered, and the panel's own rule says that this is no answer."""

    retry = Retry.NO
