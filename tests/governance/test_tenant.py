"""Tenants are told apart by their bearers, whose names give nothing of them away."""

from __future__ import annotations

import re

import pytest

from relay.governance.tenant import Tenants, new_salt

TENANTS = Tenants("salt")
KEY = "sk-relay-0123456789"
NAME = TENANTS.name(f"Bearer {KEY}")


def test_a_name_is_short_and_says_nothing() -> None:
    assert re.fullmatch("t_[0-9a-f]{12}", NAME)


@pytest.mark.parametrize("value", [f"bearer  {KEY}", f" BEARER {KEY} ", KEY])
def test_the_same_bearer_is_the_same_tenant(value: str) -> None:
    assert TENANTS.name(value) == NAME


@pytest.mark.parametrize("value", ["Bearer other", f"Bearer {KEY}x", "Bearer \udcff", "Basic dTpw"])
def test_others_are_others(value: str) -> None:
    assert TENANTS.name(value) not in ("", NAME)


@pytest.mark.parametrize("value", ["", "Bearer", "bearer ", "   "])
def test_nobody(value: str) -> None:
    assert TENANTS.name(value) == ""


def test_names_hold_as_long_as_the_salt() -> None:
    assert Tenants("salt").name(KEY) == NAME
    assert Tenants("other").name(KEY) != NAME
    assert Tenants().name(KEY) != Tenants().name(KEY)
    assert new_salt() != new_salt()
