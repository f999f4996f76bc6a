"""Secrets and amounts that people send as text: virtual keys, administrators' tokens, money.

Held to: what is read is written as it was; any one character that is another makes it none; nothing
that shows a token holds its secret.
"""

from __future__ import annotations

from decimal import Decimal

from relay.governance import token_text
from relay.governance.money import dollars, micro_from_dollars
from relay.governance.webhook import is_signed, require_address, sign
from tests.fuzz.draws import draw_of
from tests.fuzz.registry import Target

HEADS = ("rtk_0123456789abcdef." + "A" * 43, "rta_zyxwvutsrqponmlk." + "0aZ" * 14 + "x")
GOOD = tuple(head + token_text.checksum(head) for head in HEADS)
LETTERS = "09azAZ._- \n"


def check_token(given: bytes) -> bool:
    text = given.decode("latin-1")
    found = token_text.read(text)
    token_text.looks_like_one(text)
    draw = draw_of(given)
    of_ours = draw.choice(GOOD)
    at = draw.randrange(len(of_ours))
    other = of_ours[:at] + draw.choice(LETTERS) + of_ours[at + 1 :]
    assert (token_text.read(other) is None) == (other != of_ours)
    if found is None:
        return False
    head = f"{token_text.PREFIXES[found.kind]}{found.signed}"
    assert head + token_text.checksum(head) == text
    assert found.secret not in repr(found)
    return True


def check_money(given: bytes) -> bool:
    text = given.decode("utf-8", "replace")
    try:
        micro = micro_from_dollars(text)
    except ValueError as error:
        assert len(str(error)) < 300
        return False
    assert isinstance(micro, int)
    exact = Decimal(text.strip()).as_integer_ratio()
    assert exact[0] * 10**6 == micro * exact[1], f"{text!r} is not {micro} millionths"
    assert micro_from_dollars(dollars(micro)) == micro
    return True


def check_signature(given: bytes) -> bool:
    """A webhook's: none but the secret's own is good."""
    header, _, body = given.partition(b"\n")
    secret = b"s" * 32
    assert not is_signed(secret, body, header.decode("latin-1"), 1_700_000_000)
    own = sign(secret, body, 1_700_000_000)
    assert is_signed(secret, body, own, 1_700_000_000)
    assert not is_signed(secret, body + b"x", own, 1_700_000_000)
    try:
        require_address(header.decode("latin-1"))
    except ValueError:
        return False
    return True


AMOUNTS = (
    b"12.50",
    b"0.000001",
    b"1e3",
    b"-1",
    b"\xd9\xa1",
    b"999999999999999999999",
    b"1.00000000000000000000000000000001",
)
SIGNED = (b"t=1700000000,v1=00ff\n{}", b"https://a.example/hook\nx", b"http://169.254.169.254/\n")

TARGETS = {
    "token": Target(check_token, lambda: [text.encode() for text in GOOD]),
    "money": Target(check_money, lambda: AMOUNTS),
    "webhook": Target(check_signature, lambda: SIGNED),
}
