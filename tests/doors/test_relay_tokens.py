"""Rows with credentials that are fetched.

What the relay asks token endpoints is held against what the clouds' own libraries ask; and what it
does with tokens that are taken back, late or refused.
"""

from __future__ import annotations

import base64
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import azure.identity
import google.auth.transport.requests
import msal
import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID
from google.oauth2 import service_account

from tests.doors.conversation import TEXT
from tests.doors.test_relay import ask, reason_of, start, text_of
from tests.doors.world import Refused, Relay, World

CLOUD = "https://www.googleapis.com/auth/cloud-platform"
SCOPE = "https://cognitiveservices.azure.com/.default"

Row = dict[str, Any]


@pytest.fixture(autouse=True)
def _usual_clouds(world: World) -> Iterator[None]:
    yield
    for name in ("script", "clock", "rotate"):
        world.order(name)


def file_of(world: World, name: str) -> str:
    """One of Google's two files."""
    path = world.directory / f"{name}.json"
    path.write_text(json.dumps(world.get(f"/emulator/cloud/{name}")), encoding="utf-8")
    return str(path)


def vertex_row(world: World, **credential: object) -> Row:
    return {
        "door": "vertex",
        "project": "p",
        "region": "europe-west4",
        "base_url": world.url,
        "credential": {"kind": "google", **credential},
    }


def azure_row(world: World, **credential: object) -> Row:
    return {
        "door": "azure",
        "base_url": f"{world.url}/azure/openai/v1",
        "credential": {"kind": "azure_entra", **credential},
    }


def by_account(world: World) -> Row:
    return vertex_row(world, source="service_account", file=file_of(world, "service_account"))


def by_user(world: World) -> Row:
    # Google's libraries look at no address in such a file.
    uri = f"{world.url}/emulator/cloud/google_token/token"
    return vertex_row(world, source="user", file=file_of(world, "user"), token_uri=uri)


def by_metadata(world: World) -> Row:
    return vertex_row(world, source="metadata", metadata_host=world.url.removeprefix("http://"))


def by_secret(world: World) -> Row:
    return azure_row(
        world,
        tenant_id="t",
        client_id="c",
        client_secret=world.secret("s"),
        authority=f"{world.url}/emulator/cloud/entra",
    )


def by_workload(world: World) -> Row:
    path = world.directory / "federated"
    path.write_text("e.y.J")
    return azure_row(
        world,
        source="workload",
        tenant_id="t",
        client_id="c",
        token_file=str(path),
        authority=f"{world.url}/emulator/cloud/entra",
    )


def by_certificate(world: World, **more: object) -> Row:
    path = world.directory / "app.pem"
    path.write_text(world.get("/emulator/cloud/certificate")["pem"], encoding="utf-8")
    return azure_row(
        world,
        source="client_certificate",
        tenant_id="t",
        client_id="c",
        certificate_file=str(path),
        authority=f"{world.url}/emulator/cloud/entra",
        **more,
    )


def by_app_service(world: World) -> Row:
    return azure_row(
        world,
        source="managed_identity",
        identity_endpoint=f"{world.url}/emulator/cloud/app_service/msi/token",
        identity_header=world.secret("a-header"),
    )


ROWS: dict[str, tuple[Callable[[World], Row], str]] = {
    "account": (by_account, "google_token"),
    "user": (by_user, "google_token"),
    "metadata": (by_metadata, "google_metadata"),
    "secret": (by_secret, "entra"),
    "workload": (by_workload, "entra"),
    "certificate": (by_certificate, "entra"),
    "app-service": (by_app_service, "app_service"),
}
"""Row, and the endpoint that it asks."""


def token_requests(world: World, act: Callable[[], object]) -> list[dict[str, Any]]:
    """What token endpoints were asked meanwhile."""
    since = world.last_request()
    act()
    return [each for each in world.requests(since) if "/emulator/cloud/" in each["path"]]


def until_answered(relay: Relay, world: World, name: str) -> str:
    """The first answer; until then there is no token, or one that is not taken.

    Raises:
        AssertionError: none came, or it was refused for another reason.
    """
    until_s = time.monotonic() + 10.0
    while True:
        try:
            return text_of(ask(relay, name, world.scripted(text=TEXT)))
        except Refused as error:
            last = error
        assert reason_of(last) == "UPSTREAM_MISCONFIGURED"
        assert time.monotonic() < until_s, last.body
        time.sleep(0.02)  # another process: there is nothing to await


def test_tokens_are_fetched_once_and_renewed_when_they_are_taken_back(world: World) -> None:
    since = len(world.get("/emulator/cloud/report")["asks"])

    def asked() -> Counter[str]:
        asks = world.get("/emulator/cloud/report")["asks"][since:]
        return Counter(str(each["endpoint"]) for each in asks)

    once = Counter(endpoint for _, endpoint in ROWS.values())
    relay = start(world, {name: make(world) for name, (make, _) in ROWS.items()})
    for name in [*ROWS, *ROWS]:
        assert text_of(ask(relay, name, world.scripted(text=TEXT))) == TEXT
    assert asked() == once
    world.order("revoke", kind="*")
    for name in ROWS:
        assert until_answered(relay, world, name) == TEXT
    assert asked() == once + once
    said = "\n".join(relay.log())
    assert "ya29." not in said
    assert "eyJ" not in said


def test_a_refusal_is_told_without_secrets(world: World) -> None:
    world.order("script", status=400, error="invalid_grant")
    relay = start(world, {name: make(world) for name, (make, _) in ROWS.items()})
    said = []
    for name in ROWS:
        with pytest.raises(Refused) as raised:
            ask(relay, name, world.scripted())
        assert raised.value.status == 503
        assert reason_of(raised.value) == "UPSTREAM_MISCONFIGURED"
        said.append(raised.value.body)
    whole = "\n".join([*said, *relay.log()])
    for secret in ("PRIVATE KEY", "emulator-refresh-token", "emulator-client-secret", "e.y.J"):
        assert secret not in whole
    world.order("script")
    for name in ROWS:
        assert until_answered(relay, world, name) == TEXT


def test_an_endpoint_that_is_late_is_not_waited_for_by_requests(world: World) -> None:
    """The old token serves while its successor is on the way."""
    world.order("script", endpoint="google_metadata", expires_in_s=30)
    relay = start(world, {"metadata": by_metadata(world)})
    assert text_of(ask(relay, "metadata", world.scripted(text=TEXT))) == TEXT
    world.order("script", endpoint="google_metadata", delay_ms=20_000)
    began_s = time.monotonic()
    assert text_of(ask(relay, "metadata", world.scripted(text=TEXT))) == TEXT
    assert time.monotonic() - began_s < 5.0


@pytest.mark.parametrize("skew_s", [4000, -4000])
@pytest.mark.parametrize("make", [by_account, by_certificate])
def test_assertions_go_by_the_cloud_s_clock(
    world: World, make: Callable[[World], Row], skew_s: float
) -> None:
    """`iat` is of the clock that judges it, learnt from the endpoint's own Date."""
    world.order("clock", skew_s=skew_s)
    relay = start(world, {"p": make(world)})
    assert until_answered(relay, world, "p") == TEXT


def test_a_certificate_that_is_not_registered_is_told(world: World) -> None:
    row = by_certificate(world)
    world.order("certificate", certificate=another_certificate(), alone=True)
    relay = start(world, {"c": row})
    with pytest.raises(Refused, match=r"invalid_client \(AADSTS700027\)"):
        ask(relay, "c", world.scripted())
    world.get("/emulator/cloud/certificate")  # which registers it again
    assert until_answered(relay, world, "c") == TEXT


def another_certificate() -> str:
    key = generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "another")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    return made.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()


def test_a_stream_outlives_its_token(world: World) -> None:
    """One that has begun has sent its token; what is fetched meanwhile is for the next."""
    relay = start(world, {"metadata": by_metadata(world)})
    assert text_of(ask(relay, "metadata", world.scripted(text=TEXT))) == TEXT
    model = world.scripted(ttft="5", itl="40", text=TEXT)
    with ThreadPoolExecutor(1) as threads:
        streaming = threads.submit(ask, relay, "metadata", model)
        until_s = time.monotonic() + 10.0
        while not any(
            each["tokens"]
            for each in world.get("/emulator/streams")["streams"]
            if each["model"] == model
        ):
            assert time.monotonic() < until_s, "no token came"
            time.sleep(0.01)  # another process: there is nothing to await
        world.order("revoke", kind="google")
        assert until_answered(relay, world, "metadata") == TEXT
        assert text_of(streaming.result(timeout=20)) == TEXT


def form_of(request: dict[str, Any]) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(str(request["body"])).items()}


def claims_of(assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
    def part(text: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=="))
        return value

    head, body, _ = assertion.split(".")
    return part(head), part(body)


def test_the_account_s_assertion_is_that_of_google_s_library(world: World) -> None:
    info = world.get("/emulator/cloud/service_account")
    made = service_account.Credentials.from_service_account_info(info, scopes=[CLOUD])
    (theirs,) = token_requests(
        world, lambda: made.refresh(google.auth.transport.requests.Request())
    )
    (ours,) = token_requests(
        world, lambda: ask(start(world, {"v": by_account(world)}), "v", world.scripted())
    )
    assert ours["path"] == theirs["path"]
    form, other = form_of(ours), form_of(theirs)
    assert form.keys() == other.keys()
    assert form["grant_type"] == other["grant_type"]
    (head, claims), (their_head, their_claims) = (
        claims_of(each["assertion"]) for each in (form, other)
    )
    assert head == their_head
    assert claims.keys() == their_claims.keys()
    for name in ("iss", "aud", "scope"):
        assert claims[name] == their_claims[name]
    assert claims["exp"] - claims["iat"] == their_claims["exp"] - their_claims["iat"] == 3600


def test_entra_is_asked_as_microsoft_s_library_asks(world: World) -> None:
    made = azure.identity.ClientSecretCredential(
        "t",
        "c",
        "s",
        connection_verify=world.ca_file,
        authority=world.tls_url.removeprefix("https://"),
        disable_instance_discovery=True,
    )
    since = world.last_request()
    made.get_token(SCOPE)
    theirs = world.requests(since)[-1]
    (ours,) = token_requests(
        world, lambda: ask(start(world, {"a": by_secret(world)}), "a", world.scripted())
    )
    form, other = form_of(ours), form_of(theirs)
    for name in ("client_id", "grant_type", "client_secret", "scope"):
        assert form[name] == other[name].split()[0]
    # The rest is the library's telemetry.
    assert form.keys() <= other.keys()
    assert {name.partition("_")[0] for name in other.keys() - form.keys()} <= {"client"}


@pytest.mark.parametrize("sends_chain", [False, True])
def test_entra_is_asked_by_certificate_as_microsoft_s_library_asks(
    world: World, sends_chain: bool
) -> None:
    """msal with a PKCS#12 signs as the relay does; azure-identity still has it name the SHA-1."""
    info = world.get("/emulator/cloud/certificate")
    row = by_certificate(world, send_chain=sends_chain)
    path = world.directory / "app.pfx"
    path.write_bytes(pkcs12_of(info["pem"]))
    session = requests.Session()
    session.trust_env = False  # whose roots would be taken in the place of these
    session.verify = world.ca_file
    app = msal.ConfidentialClientApplication(
        "c",
        authority=f"{world.tls_url}/t",
        client_credential={
            "private_key_pfx_path": str(path),
            "public_certificate": sends_chain,
        },
        http_client=session,
        instance_discovery=False,
        validate_authority=False,
    )
    since = world.last_request()
    told = app.acquire_token_for_client([SCOPE])
    assert "access_token" in told, told
    theirs = world.requests(since)[-1]
    (ours,) = token_requests(world, lambda: ask(start(world, {"a": row}), "a", world.scripted()))
    form, other = form_of(ours), form_of(theirs)
    for name in ("client_id", "grant_type", "client_assertion_type"):
        assert form[name] == other[name]
    assert form["scope"] == other["scope"].split()[0]
    (head, claims), (their_head, their_claims) = (
        claims_of(each["client_assertion"]) for each in (form, other)
    )
    # Theirs pads the digest, and breaks the lines of certificates.
    their_head["x5t#S256"] = their_head["x5t#S256"].rstrip("=")
    if sends_chain:
        their_head["x5c"] = [each.replace("\n", "") for each in their_head["x5c"]]
    assert head == their_head
    assert claims.keys() - their_claims.keys() == {"nbf"}
    assert (claims["iss"], claims["sub"]) == (their_claims["iss"], their_claims["sub"])
    # Each for the endpoint that it asks.
    assert claims["aud"] == f"{world.url}/emulator/cloud/entra/t/oauth2/v2.0/token"
    assert their_claims["aud"] == f"{world.tls_url}/t/oauth2/v2.0/token"
    assert claims["exp"] - claims["nbf"] == 600


def pkcs12_of(pem: str) -> bytes:
    key = load_pem_private_key(pem.encode(), None)
    assert isinstance(key, RSAPrivateKey)
    leaf = x509.load_pem_x509_certificate(pem.encode())
    return serialize_key_and_certificates(b"app", key, leaf, None, NoEncryption())


def test_the_metadata_server_is_asked_as_google_s_library_asks(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    import google.auth.compute_engine
    from google.auth.compute_engine import _metadata

    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", world.url.removeprefix("http://"))
    since = world.last_request()
    google.auth.compute_engine.Credentials().refresh(google.auth.transport.requests.Request())
    theirs = [each for each in world.requests(since) if each["path"].endswith("/token")][-1]
    since = world.last_request()
    ask(start(world, {"m": by_metadata(world)}), "m", world.scripted())
    ours = next(each for each in world.requests(since) if each["path"].endswith("/token"))
    assert (
        ours["path"].rpartition("/service-accounts/")[0]
        == (theirs["path"].rpartition("/service-accounts/")[0])
    )
    assert ours["headers"]["metadata-flavor"] == theirs["headers"]["metadata-flavor"] == "Google"
