"""The pepper: one key a purpose, an id that tells nothing, and nothing else of it to be seen."""

from __future__ import annotations

import copy
import hmac
import pickle

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.governance.pepper import PURPOSES, Pepper, Peppers, WeakPepper

SECRET = "0123456789abcdefghijklmnopqrstuv"


def test_keys_are_those_of_rfc_5869() -> None:
    pepper = Pepper(SECRET)
    for purpose in PURPOSES:
        derived = HKDF(SHA256(), 32, b"rtrelay pepper v1", purpose.encode())
        assert pepper.key(purpose) == derived.derive(SECRET.encode())


def test_macs_are_those_of_the_standard_library() -> None:
    pepper = Pepper(SECRET)
    for purpose in PURPOSES:
        for text in ("", "x", "é" * 100):
            expected = hmac.digest(pepper.key(purpose), text.encode(), "sha256")
            assert pepper.mac(purpose, text) == expected


def test_what_is_made_for_one_purpose_is_no_good_for_another() -> None:
    pepper = Pepper(SECRET)
    assert len({pepper.key(purpose) for purpose in PURPOSES}) == len(PURPOSES)
    assert len({pepper.mac(purpose, "x") for purpose in PURPOSES}) == len(PURPOSES)


def test_ids_tell_peppers_apart_and_last() -> None:
    assert Pepper(SECRET).id == Pepper(SECRET).id == "77db7048"
    assert Pepper(SECRET + "w").id != Pepper(SECRET).id


@pytest.mark.parametrize("secret", ["", SECRET[:31], "x" * 64, "ab" * 40])
def test_one_that_could_be_guessed_is_refused_without_quoting_it(secret: str) -> None:
    with pytest.raises(WeakPepper) as caught:
        Pepper(secret)
    assert not secret or secret not in str(caught.value)


def test_it_is_shown_nowhere() -> None:
    pepper = Pepper(SECRET)
    shown = f"{pepper!r} {pepper} {[pepper]} {Peppers(pepper)}"
    assert SECRET not in shown
    assert not any(pepper.key(purpose).hex() in shown for purpose in PURPOSES)
    for write in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            write(pepper)


def test_old_ones_are_tried_after_the_current_one() -> None:
    new, old = Pepper(SECRET), Pepper(SECRET[::-1])
    peppers = Peppers(new, [old])
    assert (peppers.current, peppers.all) == (new, (new, old))
    assert old.id in peppers
    assert new.id in peppers
    assert "00000000" not in peppers
