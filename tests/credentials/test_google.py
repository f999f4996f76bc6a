"""Google's credentials: what they send, beside what google-auth sends, and what they make of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import google.auth.compute_engine as _engine
import google.oauth2.credentials as _user
import google.oauth2.service_account as _account
import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from relay.config import ConfigError, parse
from relay.credentials.build import build
from relay.credentials.desk import CredentialDesk
from relay.credentials.google_service_account import AUDIENCE
from relay.routing.catalog import Catalog
from tests.credentials.calls import AT_S, call
from tests.credentials.token_world import (
    GOOGLE,
    METADATA,
    PUBLIC_KEY,
    SERVICE_ACCOUNT,
    USER,
    World,
    form,
    google_row,
    reply,
    row,
    token_of,
    tokens,
    wall_s,
)
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.virtual_time import now_s, run, since_start_s

# Half of google-auth has types.
ENGINE: Any = _engine.Credentials
USERS: Any = _user.Credentials
ACCOUNTS: Any = _account.Credentials

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


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


def part(assertion: str, number: int) -> Any:
    text = assertion.split(".")[number]
    return orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def check_signature(assertion: str) -> None:
    text, _, signature = assertion.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    PUBLIC_KEY.verify(raw, text.encode(), PKCS1v15(), SHA256())


class Library:
    """Takes google-auth's own request, and answers it."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, url: str, method: str = "GET", **more: Any) -> Any:
        self.asked.append({"url": url, "method": method, **more})

        class Answer:
            status = 200
            headers: ClassVar = {"content-type": "application/json", "metadata-flavor": "Google"}
            data = orjson.dumps(
                {"access_token": "t", "expires_in": 3600, "email": "a@b", "scopes": []}
            )

        return Answer()


# --- beside google-auth -------------------------------------------------------------------------


def test_service_account_asks_as_google_auth_does(tmp_path: Path) -> None:
    library = Library()
    ACCOUNTS.from_service_account_info(SERVICE_ACCOUNT, scopes=[SCOPE]).refresh(library)
    theirs = library.asked[-1]

    async def ours(world: World) -> None:
        await world.start(google_row(tmp_path, SERVICE_ACCOUNT))
        sent = world.asked(GOOGLE)[0]
        assert f"{sent.origin.url}{sent.request.path}" == f"{theirs['url']}".replace(
            ".com/", ".com:443/"
        )
        assert sent.request.method == theirs["method"]
        their_form = {name: values[0] for name, values in parse_qs(theirs["body"].decode()).items()}
        our_form = form(sent.request)
        assert our_form.keys() == their_form.keys()
        assert our_form["grant_type"] == their_form["grant_type"]
        ours_, theirs_ = our_form["assertion"], their_form["assertion"]
        check_signature(ours_)
        check_signature(theirs_)
        assert part(ours_, 0) == part(theirs_, 0)
        claims, their_claims = part(ours_, 1), part(theirs_, 1)
        assert claims["exp"] - claims["iat"] == their_claims["exp"] - their_claims["iat"]
        assert claims["iat"] == AT_S
        for each in (claims, their_claims):
            del each["iat"], each["exp"]
        assert claims == their_claims
        assert claims["aud"] == AUDIENCE

    in_world({GOOGLE: tokens()}, ours)


def test_user_asks_as_google_auth_does(tmp_path: Path) -> None:
    library = Library()
    info = {name: value for name, value in USER.items() if name != "type"}
    USERS.from_authorized_user_info(info).refresh(library)
    theirs = library.asked[-1]

    async def ours(world: World) -> None:
        credential = await world.start(google_row(tmp_path, USER))
        sent = world.asked(GOOGLE)[0]
        assert f"{sent.origin.url}{sent.request.path}" == theirs["url"].replace(
            ".com/", ".com:443/"
        )
        their_form = {name: values[0] for name, values in parse_qs(theirs["body"].decode()).items()}
        assert form(sent.request) == their_form
        assert dict(credential.headers(call(), wall_s()))["x-goog-user-project"] == "quota-p"

    in_world({GOOGLE: tokens()}, ours)


def test_metadata_asks_as_google_auth_does() -> None:
    library = Library()
    ENGINE(service_account_email="default", scopes=[SCOPE])._perform_refresh_token(library)
    theirs = next(one for one in library.asked if "/token" in one["url"])

    async def ours(world: World) -> None:
        proxied = row(
            {"kind": "google", "source": "metadata"}, egress_proxy="http://proxy.test:3128"
        )
        credential = await world.start(proxied)
        sent = world.asked(METADATA)[0]
        assert sent.origin.url == f"http://{METADATA}:80"
        assert sent.origin.egress_proxy is None
        their = urlsplit(theirs["url"])
        our = urlsplit(sent.request.path)
        assert our.path == their.path
        assert parse_qs(our.query) == parse_qs(their.query)
        assert ("metadata-flavor", "Google") in sent.request.headers
        assert {name.lower() for name in theirs["headers"]} - {"x-goog-api-client"} == {
            "metadata-flavor"
        }
        assert token_of(credential) == "token-0001"

    in_world({METADATA: tokens()}, ours)


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew_s", [-3600, 3600])
def test_a_clock_that_is_an_hour_off_is_corrected_in_one_renewal(
    tmp_path: Path, skew_s: int
) -> None:
    """As Google refuses assertions that are not for now, the Date of its refusal tells."""
    refusal = reply(400, error="invalid_grant", date_s=AT_S + skew_s)
    later = tokens(date_s=AT_S + skew_s)

    async def off(world: World) -> None:
        credential = await world.start(google_row(tmp_path, SERVICE_ACCOUNT))
        assert token_of(credential) == "token-0001"
        assert since_start_s() == 0
        issued_s = [
            part(form(sent.request)["assertion"], 1)["iat"] - AT_S for sent in world.asked(GOOGLE)
        ]
        assert issued_s == [0, skew_s]
        assert credential.describe(now_s()).failures == 0

    in_world({GOOGLE: [refusal, *later]}, off)


def test_a_refusal_that_is_no_matter_of_clocks_is_one(tmp_path: Path) -> None:
    async def refused(world: World) -> None:
        credential = await world.start(google_row(tmp_path, SERVICE_ACCOUNT))
        assert token_of(credential) is None
        assert len(world.asked(GOOGLE)) == 1
        assert credential.describe(now_s()).last_error == f"{GOOGLE} refused: invalid_grant"

    in_world({GOOGLE: reply(400, error="invalid_grant", date_s=AT_S + 3)}, refused)


def test_steps_of_the_wall_clock_change_no_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stepped(world: World) -> None:
        credential = await world.start(google_row(tmp_path, SERVICE_ACCOUNT))
        assert credential.headers(call(), AT_S + 1e6)
        assert credential.headers(call(), AT_S - 1e6)

    in_world({GOOGLE: tokens()}, stepped)


# --- files ----------------------------------------------------------------------------------------


def test_a_key_that_is_exchanged_under_it_is_taken_at_the_next_renewal(tmp_path: Path) -> None:
    async def exchanged(world: World) -> None:
        credential = await world.start(google_row(tmp_path, SERVICE_ACCOUNT))
        google_row(tmp_path, {**SERVICE_ACCOUNT, "private_key_id": "kid-2"})
        await asyncio.sleep(3300)
        heads = [part(form(sent.request)["assertion"], 0) for sent in world.asked(GOOGLE)]
        assert [head["kid"] for head in heads] == ["kid-1", "kid-2"]
        (tmp_path / "key.json").write_text("half a fi")
        await asyncio.sleep(3300)
        assert "this is no JSON" in credential.describe(now_s()).last_error
        assert token_of(credential) == "token-0002"

    in_world({GOOGLE: tokens()}, exchanged)


def test_who_logs_in_again_is_taken_and_known(tmp_path: Path) -> None:
    async def again(world: World) -> None:
        await world.start(google_row(tmp_path, USER))
        google_row(tmp_path, {**USER, "refresh_token": "1//refresh-token-2"})
        await asyncio.sleep(3300)
        sent = [form(each.request)["refresh_token"] for each in world.asked(GOOGLE)]
        assert sent == ["1//refresh-token-1", "1//refresh-token-2"]
        (known,) = world.known.values()
        assert {"1//refresh-token-2", "user-client-secret-1", "token-0002"} <= set(known)

    in_world({GOOGLE: tokens()}, again)


@pytest.mark.parametrize(
    ("told", "source", "fault"),
    [
        ({"type": "external_account"}, "default", "type: this one is read by `source: library`"),
        (USER, "service_account", "type: `source: service_account` needs service_account"),
        ({**SERVICE_ACCOUNT, "client_email": 3}, "default", "client_email: a text is expected"),
        ({**SERVICE_ACCOUNT, "private_key": "sesame"}, "default", "private_key: no RSA private"),
        ({**SERVICE_ACCOUNT, "token_uri": "ftp://x"}, "default", "token_uri: an https:// address"),
        ({**SERVICE_ACCOUNT, "universe_domain": "a.b"}, "default", "universe_domain: another"),
        ({**USER, "token_uri": "http://t.test/"}, "default", "token_uri: an https:// address"),
        ({**USER, "token_uri": "http://a[::1]/"}, "default", "token_uri: an https:// address"),
        ({**USER, "token_uri": "https://a:b@t.test/"}, "default", "token_uri: an https:// address"),
        (
            {**USER, "token_uri": "https://t.test/\r\na"},
            "default",
            "token_uri: an https:// address",
        ),
        ({**USER, "quota_project_id": "p\r\nx-a: 1"}, "default", "quota_project_id: the quota"),
        ({**USER, "refresh_token": ""}, "default", "refresh_token: a text is expected"),
        ([], "default", "an object is expected"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, told: Any, source: str, fault: str) -> None:
    (tmp_path / "key.json").write_bytes(orjson.dumps(told))
    made = row({"kind": "google", "source": source, "file": "key.json"}, folder=tmp_path)
    with pytest.raises(ValueError, match=r"credential\.file: ") as raised:
        build(made)
    assert fault in str(raised.value)
    assert "sesame" not in str(raised.value)


def test_a_catalog_names_the_provider(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    fields = {"wire": "gemini", "base_url": "https://p.test"}
    credential = {"kind": "google", "file": "key.json"}
    config = parse({"providers": {"v": {**fields, "credential": credential}}}, folder=tmp_path)
    with pytest.raises(ConfigError, match=r"providers\.v\.credential\.file: .*key\.json: type"):
        Catalog(config, CredentialDesk())


def test_default_without_a_file_is_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    config = row({"kind": "google"})
    assert build(config).describe(0.0).source == "metadata"
