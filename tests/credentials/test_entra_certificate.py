"""The flow by certificate: what is sent, beside what msal sends; rotation, clocks, refusals."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import jwt
import msal
import orjson
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from relay.config import ConfigError, parse
from relay.credentials.build import build
from relay.routing.catalog import Catalog
from tests.credentials.calls import AT_S
from tests.credentials.certificates import certificate, ec_key, pem, pkcs12, rsa_key
from tests.credentials.token_world import (
    ENTRA,
    ENTRA_ROW,
    World,
    form,
    reply,
    row,
    token_of,
    tokens,
)
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.virtual_time import now_s, run

SCOPE = "https://cognitiveservices.azure.com/.default"
AUDIENCE = f"https://{ENTRA}/tenant-1/oauth2/v2.0/token"
KEY = rsa_key()
LEAF = certificate(KEY)
AUTHORITY = certificate(rsa_key(2), name="authority")
CERTIFIED = {name: value for name, value in ENTRA_ROW.items() if name != "client_secret"} | {
    "source": "client_certificate",
    "certificate_file": "app.pem",
}
SECRET = {"certificate_password": "${SECRET}"}


def in_world(
    endpoints: dict[str, FakeEndpoint | Sequence[FakeEndpoint]], test: Callable[[World], Any]
) -> None:
    async def runs() -> None:
        world = World.of(endpoints)
        try:
            await test(world)
        finally:
            await world.aclose()

    run(runs())


def checked(assertion: str, key: Any = KEY, at_s: float = AT_S) -> tuple[Any, Any]:
    """Head and claims, by another's reading: PyJWT."""
    head = jwt.get_unverified_header(assertion)
    claims = jwt.decode(
        assertion,
        key.public_key(),
        algorithms=["PS256"],
        audience=AUDIENCE,
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
    )
    assert claims["nbf"] == claims["iat"] == int(at_s)
    return head, claims


def thumbprint(leaf: Any = LEAF) -> str:
    digest = hashlib.sha256(leaf.public_bytes(Encoding.DER)).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class Library:
    """Takes msal's own request, and answers it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    def post(self, url: str, data: Any = None, **_: Any) -> Any:
        self.asked.append((url, data))
        return self._answer({"access_token": "t", "expires_in": 3600, "token_type": "Bearer"})

    def get(self, url: str, **_: Any) -> Any:
        base = url.partition("/v2.0/")[0]
        return self._answer(
            {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
            }
        )

    def close(self) -> None: ...

    @staticmethod
    def _answer(told: dict[str, Any]) -> Any:
        class Answer:
            status_code = 200
            text = orjson.dumps(told).decode()
            headers: Any = {}  # noqa: RUF012 - one answer's

            def raise_for_status(self) -> None: ...

        return Answer()


@pytest.mark.parametrize("sends_chain", [False, True])
def test_it_asks_as_msal_does(tmp_path: Path, sends_chain: bool) -> None:
    path = tmp_path / "app.pfx"
    path.write_bytes(pkcs12(KEY, LEAF, password="entra-client-secret"))
    library = Library()
    app = msal.ConfidentialClientApplication(
        "client-1",
        authority=f"https://{ENTRA}/tenant-1",
        client_credential={
            "private_key_pfx_path": str(path),
            "passphrase": "entra-client-secret",
            "public_certificate": sends_chain,
        },
        http_client=library,
        instance_discovery=False,
    )
    app.acquire_token_for_client([SCOPE])
    url, data = library.asked[-1]
    theirs = dict(parse_qsl(data)) if isinstance(data, str) else dict(data)

    async def ours(world: World) -> None:
        given = {**CERTIFIED, **SECRET, "certificate_file": "app.pfx", "send_chain": sends_chain}
        credential = await world.start(row(given, folder=tmp_path))
        sent = world.asked(ENTRA)[0]
        assert f"https://{sent.origin.host}{sent.request.path}" == url == AUDIENCE
        asked = form(sent.request)
        assertion = asked.pop("client_assertion")
        their_assertion = theirs.pop("client_assertion")
        if isinstance(their_assertion, bytes):
            their_assertion = their_assertion.decode()
        assert asked == {name: value for name, value in theirs.items() if name != "client_info"}
        head, claims = checked(assertion)
        their_head = jwt.get_unverified_header(their_assertion)
        # Theirs pads the digest, and breaks the lines of certificates; RFC 7515 does neither.
        their_head["x5t#S256"] = their_head["x5t#S256"].rstrip("=")
        if sends_chain:
            their_head["x5c"] = [each.replace("\n", "") for each in their_head["x5c"]]
        assert head == their_head
        assert head["x5t#S256"] == thumbprint()
        their_claims = jwt.decode(their_assertion, options={"verify_signature": False})
        assert claims.keys() - their_claims.keys() == {"nbf"}
        for name in ("aud", "iss", "sub"):
            assert claims[name] == their_claims[name]
        assert claims["exp"] - claims["iat"] == 600
        assert token_of(credential) == "token-0001"
        assert credential.describe(now_s()).source == "client_certificate"

    in_world({ENTRA: tokens()}, ours)


def test_the_chain_begins_with_the_key_s_own(tmp_path: Path) -> None:
    (tmp_path / "app.pem").write_bytes(pem(KEY, AUTHORITY, LEAF))

    async def asked(world: World) -> None:
        await world.start(row({**CERTIFIED, "send_chain": True}, folder=tmp_path))
        head, _ = checked(form(world.asked(ENTRA)[0].request)["client_assertion"])
        chain = [base64.b64decode(each) for each in head["x5c"]]
        assert chain == [each.public_bytes(Encoding.DER) for each in (LEAF, AUTHORITY)]

    in_world({ENTRA: tokens()}, asked)


def test_the_file_is_read_anew_for_every_token(tmp_path: Path) -> None:
    """A rotation under it: the next token is asked for by the new one, and one that is written
    badly leaves what there is."""
    path = tmp_path / "app.pem"
    path.write_bytes(pem(KEY, LEAF, password="entra-client-secret"))
    other = certificate(rsa_key(2))

    async def rotated(world: World) -> None:
        credential = await world.start(row({**CERTIFIED, **SECRET}, folder=tmp_path))
        first = form(world.asked(ENTRA)[0].request)["client_assertion"]
        path.write_bytes(pem(rsa_key(2), other, password="entra-client-secret"))
        await asyncio.sleep(3300)
        assert token_of(credential) == "token-0002"
        sent = world.asked(ENTRA)[1]
        second = form(sent.request)["client_assertion"]
        at_s = AT_S + sent.started_s - 1000.0
        head, claims = checked(second, rsa_key(2), at_s)
        assert head["x5t#S256"] == thumbprint(other)
        assert claims["jti"] != checked(first)[1]["jti"]
        known = next(iter(world.known.values()))
        assert {second, "entra-client-secret", "token-0002"} <= set(known)
        assert first not in known

        path.write_bytes(pem(KEY, other, password="entra-client-secret"))
        await asyncio.sleep(3300)
        state = credential.describe(now_s())
        assert state.last_error == (
            f"certificate_file: no certificate in {path} is of the private key in it"
        )
        assert token_of(credential) == "token-0002", "the old one serves on"
        assert len(world.asked(ENTRA)) == 2
        path.write_bytes(pem(KEY, LEAF, password="entra-client-secret"))
        await asyncio.sleep(70)
        assert token_of(credential) == "token-0003"
        path.unlink()
        await asyncio.sleep(3300)
        assert credential.describe(now_s()).last_error.startswith(f"cannot read {path}: ")

    in_world({ENTRA: tokens()}, rotated)


def test_another_file_is_another_credential(tmp_path: Path) -> None:
    """As on SIGHUP: its token is fetched before the old one is left."""
    path = tmp_path / "app.pem"
    path.write_bytes(pem(KEY, LEAF))

    async def reloaded(world: World) -> None:
        mine = row(CERTIFIED, folder=tmp_path)
        first = await world.start(mine)
        assert world.desk.of(mine) is first
        path.write_bytes(pem(rsa_key(2), certificate(rsa_key(2))))
        second = world.desk.of(mine)
        assert second is not first
        wanted = world.named(second)
        await world.desk.fetch(wanted)
        world.desk.retain(wanted)
        assert (token_of(first), token_of(second)) == ("token-0001", "token-0002")

    in_world({ENTRA: tokens()}, reloaded)


@pytest.mark.parametrize("off_s", [-7200, 7200])
def test_a_clock_that_is_wrong(tmp_path: Path, off_s: float) -> None:
    """Refused once, signed anew by Entra's clock in the same renewal; from then on by that."""
    (tmp_path / "app.pem").write_bytes(pem(KEY, LEAF))
    told: dict[str, Any] = {
        "error": "invalid_client",
        "error_description": "AADSTS700024: late",
    }

    async def skewed(world: World) -> None:
        credential = await world.start(row(CERTIFIED, folder=tmp_path))
        assert token_of(credential) == "a"
        first, second = (form(each.request)["client_assertion"] for each in world.asked(ENTRA))
        checked(first, at_s=AT_S)
        checked(second, at_s=AT_S + off_s)

    date_s = AT_S + off_s
    answers = [
        reply(401, date_s=date_s, **told),
        reply(access_token="a", expires_in=3600, date_s=date_s + 1),
    ]
    in_world({ENTRA: answers}, skewed)


@pytest.mark.parametrize(
    ("from_days", "to_days", "why"),
    [
        (-300, -1, "the certificate expired on 2026-11-26"),
        (1, 300, "the certificate holds only from 2026-11-28 on"),
    ],
)
def test_days_of_the_certificate(
    tmp_path: Path, from_days: float, to_days: float, why: str
) -> None:
    """It is Entra that refuses: the clock that is wrong may be ours."""
    leaf = certificate(KEY, from_days=from_days, to_days=to_days)
    (tmp_path / "app.pem").write_bytes(pem(KEY, leaf))
    told: dict[str, Any] = {"error": "invalid_client", "error_description": "AADSTS700027: secret"}

    async def refused(world: World) -> None:
        credential = await world.start(row(CERTIFIED, folder=tmp_path))
        assert token_of(credential) is None
        assert credential.describe(now_s()).last_error == (
            f"{ENTRA} refused: invalid_client (AADSTS700027); certificate_file: {why}"
        )

    in_world({ENTRA: reply(401, date_s=AT_S, **told)}, refused)

    async def taken(world: World) -> None:
        assert token_of(await world.start(row(CERTIFIED, folder=tmp_path))) == "token-0001"

    in_world({ENTRA: tokens()}, taken)


def test_a_file_that_cannot_be_used_is_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "app.pem"
    for data, given, fault in (
        (b"canary", {}, f"certificate_file: {path} is neither PEM nor PKCS#12"),
        (
            pem(ec_key(), certificate(ec_key())),
            {},
            f"certificate_file: the private key in {path} is not of RSA, and Entra takes no other",
        ),
        (
            pem(KEY, LEAF, password="another"),
            SECRET,
            f"certificate_password: does not open the private key in {path}",
        ),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError) as raised:
            build(row({**CERTIFIED, **given}, folder=tmp_path))
        assert str(raised.value) == f"credential.{fault}"
        document = {"wire": "openai_chat", "base_url": "https://p.test", "credential": CERTIFIED}
        document["credential"] = {**CERTIFIED, **given}
        config = parse({"providers": {"p": document}}, {"SECRET": "s-canary"}, folder=tmp_path)
        with pytest.raises(ConfigError) as refused:
            Catalog(config)
        assert str(refused.value) == f"providers.p.credential.{fault}"


def test_nothing_secret_is_shown(tmp_path: Path) -> None:
    (tmp_path / "app.pem").write_bytes(pem(KEY, LEAF, password="entra-client-secret"))

    async def looked_at(world: World) -> None:
        credential = await world.start(row({**CERTIFIED, **SECRET}, folder=tmp_path))
        assertion = form(world.asked(ENTRA)[0].request)["client_assertion"]
        shown = f"{credential!r}{credential.describe(now_s())}{vars(credential)['_signer']!r}"
        for secret in (assertion, "entra-client-secret", "token-0001", "PRIVATE"):
            assert secret not in shown

    in_world({ENTRA: tokens()}, looked_at)
