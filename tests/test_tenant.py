"""Tenants are told apart by their bearers, whose names give nothing of them away."""

from __future__ import annotations

import re

import pytest

from relay.frontends.caller import NOBODY, Caller, caller_of_headers, caller_of_metadata
from relay.governance.tenant import Tenants, new_salt

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
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


def test_of_an_http_request() -> None:
    headers = [
        (b"host", b"h"),
        (b"authorization", f"Bearer {KEY}".encode()),
        (b"traceparent", TRACE.encode()),
    ]
    assert caller_of_headers(TENANTS, headers) == Caller(NAME, TRACE)
    assert caller_of_headers(TENANTS, [(b"traceparent", b"nonsense \xff")]) == NOBODY
    assert caller_of_headers(TENANTS, [(b"authorization", b"Bearer \xff\xfe")]).tenant != ""


def test_of_an_rpc() -> None:
    metadata = (("user-agent", "u"), ("authorization", f"Bearer {KEY}"), ("traceparent", TRACE))
    assert caller_of_metadata(TENANTS, metadata) == Caller(NAME, TRACE)
    assert caller_of_metadata(TENANTS, (("authorization-bin", b"\xff"),)) == NOBODY
    assert caller_of_metadata(TENANTS, None) == NOBODY
