"""Assertions of apps with a certificate: each thing about one that Entra would refuse it for."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from relay.emulator.app_certificates import AppCertificates, RefusedAssertion
from tests.credentials.calls import AT_S
from tests.credentials.certificates import certificate, ec_key, rsa_key

URL = "https://login.test/t/oauth2/v2.0/token"
KEY = rsa_key()
LEAF = certificate(KEY)
Change = Callable[[dict[str, Any], dict[str, Any]], None]


def digest(kind: hashes.HashAlgorithm) -> str:
    text: str = jwt.utils.base64url_encode(LEAF.fingerprint(kind)).decode()
    return text


def assertion(
    change: Change = lambda head, claims: None, key: Any = KEY, alg: str = "PS256"
) -> str:
    head: dict[str, Any] = {"x5t#S256": digest(hashes.SHA256())}
    claims: dict[str, Any] = {"aud": URL, "iss": "c", "sub": "c", "jti": "1"}
    claims |= {"nbf": int(AT_S), "exp": int(AT_S) + 600}
    change(head, claims)
    return jwt.encode(claims, key, algorithm=alg, headers=head)


def registered(leaf: Any = LEAF) -> AppCertificates:
    made = AppCertificates()
    made.register(leaf.public_bytes(Encoding.PEM).decode())
    return made


def code_of(text: str, *, now_s: float = AT_S, leaf: Any = LEAF) -> int:
    with pytest.raises(RefusedAssertion) as raised:
        registered(leaf).check(text, "c", {URL}, now_s)
    return raised.value.code


def legacy(head: dict[str, Any], claims: dict[str, Any]) -> None:
    head.clear()
    head["x5t"] = digest(hashes.SHA1()) + "="


def test_both_ways_of_signing() -> None:
    assert registered().check(assertion(), "c", {URL}, AT_S)
    assert registered().check(assertion(legacy, alg="RS256"), "c", {URL}, AT_S)


@pytest.mark.parametrize("federated", ["e.y.J", "opaque", "", jwt.encode({"iss": "k8s"}, "k" * 32)])
def test_what_others_have_issued_is_not_looked_into(federated: str) -> None:
    assert not registered().check(federated, "c", {URL}, AT_S)


def put(part: int, **fields: object) -> Change:
    def change(head: dict[str, Any], claims: dict[str, Any]) -> None:
        (head, claims)[part].update(fields)

    return change


def drop(name: str) -> Change:
    def change(head: dict[str, Any], claims: dict[str, Any]) -> None:
        head.pop(name, None)
        claims.pop(name, None)

    return change


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put(0, **{"x5t#S256": "A" * 43}), 700027),
        (drop("x5t#S256"), 700027),
        (put(1, iss="other"), 700021),
        (put(1, sub="other"), 700021),
        (put(1, aud="https://login.test/other/oauth2/v2.0/token"), 700023),
        (drop("aud"), 700023),
        (drop("jti"), 50027),
        (drop("exp"), 50027),
        (put(1, exp=AT_S - 301), 700024),
        (put(1, nbf=AT_S + 301), 700024),
    ],
)
def test_what_is_refused(change: Change, code: int) -> None:
    assert code_of(assertion(change)) == code


def test_signatures_of_another_key_and_of_another_way() -> None:
    assert code_of(assertion(key=rsa_key(2))) == 700027
    assert code_of(assertion(alg="RS256")) == 700027, "its digest is not the one of this way"
    head, claims, signature = assertion().split(".")
    other = assertion(put(1, jti="2")).split(".")[1]
    assert code_of(f"{head}.{other}.{signature}") == 700027
    assert code_of(f"{head}.{claims}.{signature[:-8]}") == 700027


def test_days_of_the_certificate() -> None:
    day_s = datetime.timedelta(days=1).total_seconds()
    at_s = AT_S + 301 * day_s
    late = assertion(put(1, nbf=at_s, exp=at_s + 600))
    assert code_of(late, now_s=at_s) == 700027
    at_s = AT_S - 2 * day_s
    early = assertion(put(1, nbf=at_s, exp=at_s + 600))
    assert code_of(early, now_s=at_s) == 700027


def test_one_alone() -> None:
    made = registered()
    made.register(certificate(rsa_key(2)).public_bytes(Encoding.PEM).decode(), alone=True)
    with pytest.raises(RefusedAssertion):
        made.check(assertion(), "c", {URL}, AT_S)


def test_only_rsa() -> None:
    with pytest.raises(ValueError, match="RSA"):
        registered(certificate(ec_key()))


def test_its_own_counts() -> None:
    made = AppCertificates()
    own = made.own()
    assert made.own() == own
    assert own["pem"].endswith(own["certificate"])
