"""What stands for a person or account, in sentences, and what is taken for none."""

from __future__ import annotations

import pytest

from relay.guardrails.pii import pii_scanners


def found(kind: str, text: str) -> list[str]:
    (scanner,) = pii_scanners([kind])
    assert scanner.name == f"pii.{kind}"
    return [text[one.start : one.end] for one in scanner.find(text)]


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("iban", "to DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
        ("iban", "IBAN:GB82WEST12345698765432.", "GB82WEST12345698765432"),
        ("iban", "DE89-3704-0044-0532-0130-00 AND MORE", "DE89-3704-0044-0532-0130-00"),
        ("us_ssn", "my ssn is 123-45-6789.", "123-45-6789"),
        ("uk_nino", "NI number AB 12 34 56 C ok", "AB 12 34 56 C"),
        ("uk_nhs", "NHS 943 476 5919", "943 476 5919"),
        ("de_tax_id", "Steuer-ID 86 095 742 719", "86 095 742 719"),
        ("es_dni", "DNI 12345678-Z", "12345678-Z"),
        ("es_dni", "NIE X1234567L", "X1234567L"),
        ("fr_nir", "2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
        ("in_aadhaar", "aadhaar 2341 2341 2346", "2341 2341 2346"),
        ("dob", "I was born on 12.03.1985 in Rome", "12.03.1985"),
        ("dob", "date of birth: 1985-03-12", "1985-03-12"),
        ("dob", "DOB 3/12/85", "3/12/85"),
        ("dob", "born in Paris on March 12th, 1985", "March 12th, 1985"),
        ("dob", "geboren am 12. 3. 1985", "12. 3. 1985"),
        ("dob", "né le 12/03/1985", "12/03/1985"),
        ("passport", "my passport number is C01X00T47.", "C01X00T47"),
        ("passport", "Passport No: 123456789", "123456789"),
        ("ip", "host 10.0.0.1, port 80", "10.0.0.1"),
        ("ip", "see 2001:db8::ff00:42:8329.", "2001:db8::ff00:42:8329"),
        ("ip", "::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("mac", "00:1B:44:11:3a:b7", "00:1B:44:11:3a:b7"),
        ("mac", "00-1B-44-11-3A-B7", "00-1B-44-11-3A-B7"),
        ("mac", "001b.4411.3ab7", "001b.4411.3ab7"),
        ("email", "mail anna.schmidt+x@mail.example.co.uk.", "anna.schmidt+x@mail.example.co.uk"),
        ("email", "<jörg@müller.de>", "jörg@müller.de"),
        ("email_domain", "anna@example.com", "@example.com"),
    ],
)
def test_found(kind: str, text: str, wanted: str) -> None:
    assert found(kind, text) == [wanted]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("iban", "DE88 3704 0044 0532 0130 00"),
        ("iban", "XX89 3704 0044 0532 0130 00"),
        ("iban", "DE89 3704 0044 0532 0130 001"),
        ("us_ssn", "000-12-3456"),
        ("us_ssn", "666-12-3456"),
        ("us_ssn", "912-12-3456"),
        ("us_ssn", "123-45 6789"),
        ("us_ssn", "1123-45-6789"),
        ("uk_nino", "BG 12 34 56 C"),
        ("uk_nhs", "943 476 5918"),
        ("es_dni", "12345678A"),
        ("dob", "the meeting on 12.03.1985"),
        ("dob", "born to be wild"),
        ("passport", "the passport is a booklet"),
        ("ip", "version 1.2.3"),
        ("ip", "999.1.1.1"),
        ("ip", "at 12:30:45"),
        ("mac", "00:1b:44:11:3a"),
        ("email", "a @ b"),
        ("email", "me@localhost"),
        ("email", "@handle"),
    ],
)
def test_not_found(kind: str, text: str) -> None:
    assert found(kind, text) == []


def test_unknown_kind() -> None:
    with pytest.raises(KeyError):
        pii_scanners(["nose"])
