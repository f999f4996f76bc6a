"""What stands in the place of something that was found."""

from __future__ import annotations

from typing import Final

_NAMES: Final = {
    "pii.ip": "IP_ADDRESS",
    "pii.mac": "MAC_ADDRESS",
    "pii.card": "CARD_NUMBER",
    "pii.email_domain": "EMAIL_DOMAIN",
    "pii.dob": "DATE_OF_BIRTH",
    "pii.us_ssn": "SSN",
    "denied": "REMOVED",
}
_SHOWN: Final = 4
_LEAST_HIDDEN: Final = 4


def redacted(label: str) -> str:
    """The label's own word: `[EMAIL]` for `pii.email`, `[SECRET]` for all secrets."""
    name = _NAMES.get(label)
    if name is None:
        family, _, kind = label.partition(".")
        name = "SECRET" if family == "secret" else (kind or family)
    return f"[{name.upper().replace('-', '_').replace(' ', '_')}]"


def masked(label: str, text: str) -> str:
    """Stars and the last four letters or digits, `****1234`. Of secrets, and of what is so short
    that four characters would be most of it, nothing is shown.

    Args:
        text: what was found, folded.
    """
    kept = [one for one in text if one.isalnum()]
    if label.startswith("secret.") or len(kept) < _SHOWN + _LEAST_HIDDEN:
        return "****"
    return "****" + "".join(kept[-_SHOWN:])
