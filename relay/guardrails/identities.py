"""Numbers that stand for a person or an account: by form, and by their check digits.

Where a number without check digits could be anything, a word in front of it must say what it is.
Letters are capitals, as such numbers are written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from relay.guardrails import check_digits
from relay.guardrails.regex_scanner import Check, RegexScanner, Span

_IBAN: Final = r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?:[ -]?[A-Z0-9]){11,29}"


def _bare(text: str) -> str:
    return "".join(one for one in text if one.isalnum())


def _checked(is_right: Callable[[str], bool]) -> Check:
    def check(match: re.Match[str]) -> Span | None:
        return match.span() if is_right(_bare(match.group())) else None

    return check


def _check_iban(match: re.Match[str]) -> Span | None:
    text, start = match.string, match.start()
    wanted = check_digits.iban_chars(text[start : start + 2])
    end = start
    while wanted and end < match.end():
        wanted -= text[end].isalnum()
        end += 1
    if wanted or (end < len(text) and text[end].isalnum()):
        return None
    return (start, end) if check_digits.is_iban(_bare(text[start:end])) else None


def iban_scanner() -> RegexScanner:
    """`pii.iban`: the countries of the ISO 13616 registry, mod 97."""
    return RegexScanner("pii.iban", _IBAN, 33 + 32, check=_check_iban)


def us_ssn_scanner() -> RegexScanner:
    """`pii.us_ssn`: with dashes or spaces; areas, groups and serials that are never given out are
    none."""
    return RegexScanner(
        "pii.us_ssn",
        r"(?<![\w\-])(?!000|666|9)\d{3}([ -])(?!00)\d{2}\1(?!0000)\d{4}(?![\w\-])",
        11,
        shape=r"(?<![\w\-])\d{3}[ -]\d{2}[ -]\d{4}(?![\w\-])",
    )


def uk_nino_scanner() -> RegexScanner:
    """`pii.uk_nino`: national insurance number."""
    return RegexScanner(
        "pii.uk_nino",
        r"(?<!\w)(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
        r" ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)",
        13,
        shape=r"(?<!\w)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D](?!\w)",
    )


def uk_nhs_scanner() -> RegexScanner:
    """`pii.uk_nhs`: in groups of three, three and four, mod 11."""
    return RegexScanner(
        "pii.uk_nhs",
        r"(?<![\w\-])\d{3}[ -]\d{3}[ -]\d{4}(?![\w\-])",
        12,
        check=_checked(check_digits.is_nhs_number),
    )


def de_tax_id_scanner() -> RegexScanner:
    """`pii.de_tax_id`: eleven digits, in one or as 2 3 3 3."""
    return RegexScanner(
        "pii.de_tax_id",
        r"(?<!\w)[1-9]\d ?\d{3} ?\d{3} ?\d{3}(?!\w)",
        14,
        check=_checked(check_digits.is_german_tax_id),
    )


def es_dni_scanner() -> RegexScanner:
    """`pii.es_dni`: DNI and NIE."""
    return RegexScanner(
        "pii.es_dni",
        r"(?<!\w)(?:\d{8}|[XYZ]-?\d{7})[ -]?[A-HJ-NP-TV-Z](?!\w)",
        11,
        check=_checked(check_digits.is_spanish_id),
    )


def fr_nir_scanner() -> RegexScanner:
    """`pii.fr_nir`: number of the register of persons (sécurité sociale), with its key."""
    return RegexScanner(
        "pii.fr_nir",
        r"(?<!\w)[1-478] ?\d{2} ?\d{2} ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}(?!\w)",
        21,
        check=_checked(check_digits.is_french_nir),
    )


def in_aadhaar_scanner() -> RegexScanner:
    """`pii.in_aadhaar`: twelve digits, in one or as 4 4 4, after Verhoeff."""
    return RegexScanner(
        "pii.in_aadhaar",
        r"(?<!\w)(?<!\d[ -])[2-9]\d{3}([ -]?)\d{4}\1\d{4}(?!\w)",
        14,
        context_chars=2,
        check=_checked(check_digits.is_verhoeff),
        shape=r"(?<!\w)[2-9]\d{3}[ -]?\d{4}[ -]?\d{4}(?!\w)",
    )


_BIRTH: Final = (
    r"(?:born|birth(?:day|date)?|dob|d\.o\.b\.?|geboren|geb\.|geburts(?:tag|datum)|n[ée]{1,2} le"
    r"|naissance|nacid[oa]|nacimiento|nat[oa] il|nascita)"
)
_MONTH: Final = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATE: Final = (
    r"(?:\d{1,2} ?[./-] ?\d{1,2} ?[./-] ?(?:\d{4}|\d{2})|\d{4}[./-]\d{1,2}[./-]\d{1,2}"
    rf"|\d{{1,2}}(?:st|nd|rd|th|\.)? {{1,2}}(?:of )?{_MONTH}\.?,? {{1,2}}\d{{4}}"
    rf"|{_MONTH}\.? {{1,2}}\d{{1,2}}(?:st|nd|rd|th)?,? {{1,2}}\d{{4}})(?!\d)"
)


def dob_scanner() -> RegexScanner:
    """`pii.dob`: a date within some words behind one that says birth (English, German, French,
    Spanish, Italian); months by number or in English."""
    return RegexScanner(
        "pii.dob",
        rf"(?<!\w){_BIRTH}[ :=,\"'*()]{{1,4}}(?:[a-z]{{1,8}}[ :=,]{{1,3}}){{0,3}}(?P<held>{_DATE})",
        32,
        context_chars=16 + 4 + 3 * 11,
        ignore_case=True,
    )


def passport_scanner() -> RegexScanner:
    """`pii.passport`: six to nine letters and digits, four of them digits, behind the word."""
    return RegexScanner(
        "pii.passport",
        r"(?<!\w)(?:passport|passeport|pasaporte|passaporto|reisepass(?:nummer)?)"
        r"(?: (?:no|nr|number|num|n))?[ .:#=]{1,4}(?:(?:is|ist|est|es) )?"
        r"(?P<held>(?=(?:[A-Z]{0,5}\d){4})[A-Z0-9]{6,9}(?!\w))",
        9,
        context_chars=1 + 16 + 7 + 4 + 4,
        ignore_case=True,
        shape=r"(?<!\w)(?:passport|passeport|pasaporte|passaporto|reisepass(?:nummer)?)"
        r"(?: (?:no|nr|number|num|n))?[ .:#=]{1,4}(?:(?:is|ist|est|es) )?"
        r"(?P<held>[A-Z0-9]{6,9}(?!\w))",
    )
