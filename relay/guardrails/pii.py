"""Personal data by form and check digits: which kinds there are, and their scanners."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from relay.guardrails import addresses, cards, identities, phones
from relay.guardrails.scan import Scanner

_BUILDERS: Final[dict[str, Callable[[], Scanner]]] = {
    "email": addresses.EmailScanner,
    "email_domain": addresses.email_domain_scanner,
    "card": cards.card_scanner,
    "iban": identities.iban_scanner,
    "ip": addresses.ip_scanner,
    "mac": addresses.mac_scanner,
    "dob": identities.dob_scanner,
    "passport": identities.passport_scanner,
    "us_ssn": identities.us_ssn_scanner,
    "uk_nino": identities.uk_nino_scanner,
    "uk_nhs": identities.uk_nhs_scanner,
    "de_tax_id": identities.de_tax_id_scanner,
    "es_dni": identities.es_dni_scanner,
    "fr_nir": identities.fr_nir_scanner,
    "in_aadhaar": identities.in_aadhaar_scanner,
}

PII_KINDS: Final = ("phone", *_BUILDERS)
"""Every kind; its label is `pii.` and the kind."""

DEFAULT_KINDS: Final = ("email", "phone", "card", "iban", "us_ssn")
"""What is looked for where no kinds are named. Numbers of single countries are asked for by name:
where nobody has them, other numbers are taken for them."""


def pii_scanners(
    kinds: Sequence[str] = DEFAULT_KINDS, *, region: str | None = None
) -> list[Scanner]:
    """One scanner a kind.

    Args:
        kinds: of `PII_KINDS`.
        region: whose national telephone numbers count, two letters; None: only those with a
            country's code.

    Raises:
        KeyError: there is no such kind.
        ValueError: there is no such region.
        ModuleNotFoundError: `phone` is wanted, and `phonenumbers` is not installed.
    """
    return [
        phones.phone_scanner(region) if kind == "phone" else _BUILDERS[kind]() for kind in kinds
    ]
