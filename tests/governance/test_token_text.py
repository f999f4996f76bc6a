"""Secrets as texts: made, read back, and refused with any character changed."""

from __future__ import annotations

import string
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.token_text import Kind, Minted, TokenText, looks_like_one, mint, read
from tests.fakes.properties import examples

KINDS: list[Kind] = ["virtual key", "administrator"]
MINTED = Minted("virtual key", "0123456789abcdef", "Secret0123456789Secret0123456789Secret01234")


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_made_is_read_back(kind: Kind) -> None:
    minted = mint(kind)
    found = read(minted.text)
    assert found is not None
    assert (found.kind, found.id, found.secret) == (kind, minted.id, minted.secret)
    assert found.signed == minted.signed
    assert minted.text.startswith("rtk_" if kind == "virtual key" else "rta_")
    assert (len(minted.id), len(minted.secret), len(minted.text)) == (16, 43, 70)
    assert minted.text.endswith(minted.last4)
    assert len(minted.last4) == 4


def test_the_checksum_is_crc_32_in_base_62() -> None:
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    for _ in range(100):
        minted = mint("administrator")
        value = 0
        for digit in minted.text[-6:]:
            value = 62 * value + digits.index(digit)
        assert value == zlib.crc32(minted.text[:-6].encode())


def test_no_two_are_alike() -> None:
    made = [mint("virtual key") for _ in range(200)]
    assert len({one.id for one in made}) == len({one.secret for one in made}) == 200
    assert len(set("".join(one.secret for one in made))) == 62


@examples(200, full=5000)
@given(st.integers(0, len(MINTED.text) - 1), st.characters(codec="utf-8"))
def test_any_other_character_makes_it_none_of_ours(at: int, other: str) -> None:
    changed = MINTED.text[:at] + other + MINTED.text[at + 1 :]
    assert (read(changed) is not None) == (changed == MINTED.text)


def test_any_bit_that_is_flipped_makes_it_none_of_ours() -> None:
    data = MINTED.text.encode()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert read(flipped.decode("latin-1")) is None


@examples(300)
@given(st.text(max_size=80) | st.text(string.ascii_letters + string.digits + "_.", max_size=80))
def test_any_text_is_read_or_not(text: str) -> None:
    assert read(text) is None
    assert read(f"rtk_{text}") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        MINTED.text + "\n",
        " " + MINTED.text,
        MINTED.text[:-1],
        MINTED.text + "0",
        MINTED.text.replace(".", ""),
        MINTED.text.replace("rtk_", "rta_"),
        MINTED.text.upper(),
        "rtk_" + "٠" * 16 + MINTED.text[20:],
        "rtk_" + "a" * 100_000,
    ],
)
def test_others_are_none_of_ours(text: str) -> None:
    assert read(text) is None


def test_who_means_one_of_ours_is_known_by_its_beginning() -> None:
    assert looks_like_one("rtk_")
    assert looks_like_one("rta_x")
    assert not looks_like_one("sk-x")
    assert not looks_like_one("")


def test_no_secret_is_shown() -> None:
    read_back = read(MINTED.text)
    assert isinstance(read_back, TokenText)
    shown = f"{MINTED!r} {MINTED} {[MINTED]} {read_back!r}"
    assert MINTED.secret not in shown
    assert MINTED.id in shown
