"""Check digits of numbers that states and banks give out. Digits are texts of ASCII digits."""

from __future__ import annotations

from typing import Final

_DIHEDRAL: Final = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_PERMUTED: Final = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)
_DNI_LETTERS: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
_IBANS: Final = (
    "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 "
    "DJ27 DK18 DO28 EE20 EG29 ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 "
    "HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 LY25 MC27 "
    "MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24 "
    "RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 "
    "VG24 XK20 YE30"
)
_IBAN_CHARS: Final = {one[:2]: int(one[2:]) for one in _IBANS.split()}
"""ISO 13616 registry: country -> characters of an IBAN."""


def iban_chars(country: str) -> int:
    """How long this country's IBANs are; 0: it has none."""
    return _IBAN_CHARS.get(country, 0)


def is_iban(text: str) -> bool:
    """ISO 7064 mod 97-10, of capital letters and digits without spaces."""
    if len(text) != iban_chars(text[:2]):
        return False
    return int("".join(str(int(one, 36)) for one in text[4:] + text[:4])) % 97 == 1


def is_verhoeff(digits: str) -> bool:
    """J. Verhoeff, Error Detecting Decimal Codes (1969)."""
    check = 0
    for at, digit in enumerate(reversed(digits)):
        check = int(_DIHEDRAL[check][int(_PERMUTED[at % 8][int(digit)])])
    return check == 0


def is_german_tax_id(digits: str) -> bool:
    """Steuer-Identifikationsnummer: ISO 7064 mod 11-10; among the first ten digits one or two are
    missing, and none stands there more than three times."""
    head = digits[:10]
    if head[0] == "0" or not 8 <= len(set(head)) <= 9 or max(map(head.count, head)) > 3:
        return False
    product = 10
    for digit in head:
        total = (int(digit) + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def is_spanish_id(text: str) -> bool:
    """DNI: eight digits and a letter; NIE: X, Y or Z in the place of the first digit."""
    first = "XYZ".find(text[0])
    number = text[:-1] if first < 0 else f"{first}{text[1:-1]}"
    return _DNI_LETTERS[int(number) % 23] == text[-1]


def is_french_nir(text: str) -> bool:
    """Thirteen characters and two check digits, mod 97; Corsica has letters."""
    number = text[:13].replace("2A", "19").replace("2B", "18")
    return 97 - int(number) % 97 == int(text[13:])


def is_nhs_number(digits: str) -> bool:
    """Ten digits, mod 11 with weights from 10 down to 2."""
    check = 11 - sum(int(digit) * (10 - at) for at, digit in enumerate(digits[:9])) % 11
    return check % 11 == int(digits[9]) and check != 10
