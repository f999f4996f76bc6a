"""Entra's flows: what they send, beside what azure-identity sends, and what they make of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import azure.identity
import orjson
import pytest
from azure.core.pipeline.transport import HttpTransport

from relay.config import parse
from relay.credentials.build import build
from tests.credentials.calls import AT_S
from tests.credentials.token_world import (
    ENTRA,
    ENTRA_ROW,
    IMDS,
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
THEIRS_ALONE = {"client_info"}
"""MSAL asks for the account's id, which an application has none of."""


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


class Library(HttpTransport[Any, Any]):
    """Takes azure-identity's own requests, and answers them."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def open(self) -> None: ...

    def close(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def sleep(self, duration: float) -> None: ...

    def send(self, request: Any, **_: Any) -> Any:
        self.asked.append(request)
        host = urlsplit(request.url)
        if request.url.endswith("openid-configuration") or "/.well-known/" in request.url:
            told: dict[str, Any] = {
                "token_endpoint": f"https://{host.netloc}/tenant-1/oauth2/v2.0/token",
                "authorization_endpoint": f"https://{host.netloc}/tenant-1/oauth2/v2.0/authorize",
                "issuer": f"https://{host.netloc}/tenant-1/v2.0",
            }
        else:
            told = {
                "access_token": "t",
                "expires_in": 3600,
                "expires_on": int(AT_S) + 10_000_000,
                "token_type": "Bearer",
                "resource": "r",
            }
        return _Answer(request, orjson.dumps(told))


class _Answer:
    """What the pipeline of azure-core wants of an answer."""

    status_code = 200
    reason = "OK"
    content_type = "application/json"

    def __init__(self, request: Any, body: bytes) -> None:
        self.request = self.internal_response = request
        self.headers = {"content-type": "application/json"}
        self.block_size = 4096
        self._body = body

    def body(self) -> bytes:
        return self._body

    def text(self, encoding: str | None = None) -> str:
        del encoding
        return self._body.decode()


def body_of(request: Any) -> dict[str, str]:
    data = request.data if isinstance(request.data, dict) else dict(parse_qsl(request.data))
    return {name: text for name, text in data.items() if name not in THEIRS_ALONE}


def test_client_secret_asks_as_azure_identity_does() -> None:
    library = Library()
    azure.identity.ClientSecretCredential(
        "tenant-1",
        "client-1",
        "entra-client-secret",
        transport=library,
        disable_instance_discovery=True,
    ).get_token(SCOPE)
    theirs = library.asked[-1]

    async def ours(world: World) -> None:
        credential = await world.start(row(ENTRA_ROW))
        sent = world.asked(ENTRA)[0]
        assert f"https://{sent.origin.host}{sent.request.path}" == theirs.url
        assert sent.request.method == theirs.method
        assert form(sent.request) == body_of(theirs)
        assert token_of(credential) == "token-0001"

    in_world({ENTRA: tokens()}, ours)


def test_workload_asks_as_azure_identity_does(tmp_path: Path) -> None:
    path = tmp_path / "federated"
    path.write_text("federated-1\n")
    library = Library()
    azure.identity.WorkloadIdentityCredential(
        tenant_id="tenant-1",
        client_id="client-1",
        token_file_path=str(path),
        transport=library,
        disable_instance_discovery=True,
    ).get_token(SCOPE)
    theirs = library.asked[-1]

    async def ours(world: World) -> None:
        config = {**ENTRA_ROW, "source": "workload", "token_file": "federated"}
        del config["client_secret"]
        credential = await world.start(row(config, folder=tmp_path))
        sent = world.asked(ENTRA)[0]
        assert f"https://{sent.origin.host}{sent.request.path}" == theirs.url
        assert form(sent.request) == {name: text.strip() for name, text in body_of(theirs).items()}
        path.write_text("federated-2")
        await asyncio.sleep(3300)
        assertions = [form(each.request)["client_assertion"] for each in world.asked(ENTRA)]
        assert assertions == ["federated-1", "federated-2"], "read anew each time"
        assert "federated-2" in next(iter(world.known.values()))
        path.write_text("")
        await asyncio.sleep(3300)
        assert "this is no token" in credential.describe(now_s()).last_error
        assert token_of(credential) == "token-0002"

    in_world({ENTRA: tokens()}, ours)


@pytest.mark.parametrize("client_id", [None, "user-assigned-1"])
def test_machine_asks_as_azure_identity_does(
    client_id: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "MSI_ENDPOINT", "AZURE_CLIENT_ID"):
        monkeypatch.delenv(name, raising=False)
    library = Library()
    azure.identity.ManagedIdentityCredential(client_id=client_id, transport=library).get_token(
        SCOPE
    )
    theirs = library.asked[-1]

    async def ours(world: World) -> None:
        config = {"kind": "azure_entra", "source": "managed_identity"}
        named = {} if client_id is None else {"client_id": client_id}
        proxied = row({**config, **named}, egress_proxy="http://proxy.test:1")
        credential = await world.start(proxied)
        sent = world.asked(IMDS)[0]
        assert sent.origin.egress_proxy is None
        same_query(f"{sent.origin.url}{sent.request.path}", theirs)
        assert ("metadata", "true") in sent.request.headers
        assert theirs.headers["Metadata"] == "true"
        assert token_of(credential) == "machine"
        # Its numbers are texts.
        assert credential.describe(now_s()).expires_in_s == 86_399

    told: dict[str, Any] = {"access_token": "machine", "expires_in": "86399", "expires_on": "1"}
    in_world({IMDS: reply(**told)}, ours)


def test_app_service_asks_as_azure_identity_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:41741/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "app-service-secret")
    library = Library()
    azure.identity.ManagedIdentityCredential(transport=library).get_token(SCOPE)
    theirs = library.asked[-1]

    async def ours(world: World) -> None:
        config = {"kind": "azure_entra", "source": "managed_identity"}
        fields = {"wire": "openai_chat", "base_url": "https://p.test/v1", "credential": config}
        credential = await world.start(parse({"providers": {"p": fields}}).providers["p"])
        sent = world.asked("127.0.0.1")[0]
        same_query(f"{sent.origin.url}{sent.request.path}", theirs)
        assert (
            dict(sent.request.headers)["x-identity-header"] == theirs.headers["X-IDENTITY-HEADER"]
        )
        # It tells no life but a moment: by the clock of its own answer.
        assert credential.describe(now_s()).expires_in_s == 500
        assert "app-service-secret" in credential.secrets()

    at_s = AT_S + 7000  # this machine's clock is two hours slow
    answer = reply(access_token="app", expires_on=str(int(at_s) + 500), date_s=at_s)
    in_world({"127.0.0.1": answer}, ours)


def same_query(url: str, theirs: Any) -> None:
    our, their = urlsplit(url), urlsplit(theirs.url)
    assert (our.hostname, our.path) == (their.hostname, their.path)
    assert parse_qs(our.query) == parse_qs(their.query)
    assert theirs.method == "GET"


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"token_type": "Bearer"}, "the answer holds no access token"),
        ({"access_token": ""}, "the answer holds no access token"),
        ({"access_token": "a\nb", "expires_in": 9}, "the answer holds no access token"),
        ({"access_token": "a", "expires_in": 0}, "the token that was given is over"),
        ({"access_token": "a", "expires_on": AT_S - 1}, "the token that was given is over"),
    ],
)
def test_answers_that_cannot_be_used(told: dict[str, Any], fault: str) -> None:
    async def odd(world: World) -> None:
        credential = await world.start(row(ENTRA_ROW))
        assert token_of(credential) is None
        assert credential.describe(now_s()).last_error == f"{ENTRA}: {fault}"

    in_world({ENTRA: reply(**told)}, odd)


@pytest.mark.parametrize(
    ("expires_in", "life_s"),
    [(True, 300), (None, 300), ("soon", 300), (1e300, 300), (1e11, 366 * 86_400)],
)
def test_lives_that_are_odd(expires_in: object, life_s: float) -> None:
    async def odd(world: World) -> None:
        credential = await world.start(row(ENTRA_ROW))
        assert credential.describe(now_s()).expires_in_s == life_s

    in_world({ENTRA: reply(access_token="a", expires_in=expires_in)}, odd)


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("authority", "ftp://login.test"),
        ("authority", "https://"),
        ("authority", "https://a:x"),
        ("authority", "http://login.test"),
        ("authority", "https://login .test"),
        ("authority", "login.test\n"),
    ],
)
def test_addresses_that_are_none(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=rf"credential\.{field}: an https:// address"):
        build(row({**ENTRA_ROW, field: text}))


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:1", "[::1]:1"])
def test_this_machine_may_be_asked_in_the_clear(host: str) -> None:
    build(row({**ENTRA_ROW, "authority": f"http://{host}"}))


def test_an_authority_may_be_a_host_and_tenants_are_quoted() -> None:
    async def asked(world: World) -> None:
        odd = {**ENTRA_ROW, "authority": "login.chinacloudapi.cn/", "tenant_id": "a/../b"}
        await world.start(row(odd))
        path = world.asked("login.chinacloudapi.cn")[0].request.path
        assert path == "/a%2F..%2Fb/oauth2/v2.0/token"

    in_world({"login.chinacloudapi.cn": tokens()}, asked)
