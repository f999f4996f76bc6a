"""Why an act was not done; the closed list that the API and the commands tell."""

from __future__ import annotations

from typing import Final

from relay.governance.known_secrets import KnownSecrets

_TOKENS: Final = KnownSecrets()


class Fault(Exception):
    """Nothing was changed.

    Args:
        message: for whoever asked. What he took for a name may be a key: its secret is taken out.
        field: of the input that is wrong, or "".
    """

    code = "invalid"
    http_status = 400

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(_TOKENS.hide(message))
        self.field = field


class Invalid(Fault):
    """A field is missing, wrong or not known."""


class NotFound(Fault):
    """There is none of this name or id, or none that whoever asks may see."""

    code = "not_found"
    http_status = 404


class Conflict(Fault):
    """Another one has the name, or its state does not allow it."""

    code = "conflict"
    http_status = 409


class Denied(Fault):
    """The role does not allow it."""

    code = "permission_denied"
    http_status = 403
