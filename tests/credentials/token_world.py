"""Token endpoints in memory, a desk, and one row, on a virtual clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.config import parse
from relay.config.providers import ProviderConfig
from relay.credentials.ask import Ask, Way
from relay.credentials.base import Credential
from relay.credentials.desk import CredentialDesk
from relay.errors import CredentialUnavailable
from relay.transport.base import Transport, UpstreamRequest
from tests.credentials.calls import AT_S, call
from tests.fakes.memory_transport import FakeEndpoint, MemoryAttempt, MemoryTransport
from tests.fakes.virtual_time import now_s as loop_s
from tests.fakes.virtual_time import since_start_s

GOOGLE = "oauth2.googleapis.com"
ENTRA = "login.microsoftonline.com"
METADATA = "metadata.google.internal"
IMDS = "169.254.169.254"

_PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_KEY = _PRIVATE.public_key()
PRIVATE_PEM = _PRIVATE.private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
).decode()
SERVICE_ACCOUNT = {
    "type": "service_account",
    "project_id": "p-1",
    "private_key_id": "kid-1",
    "private_key": PRIVATE_PEM,
    "client_email": "relay@p-1.iam.gserviceaccount.com",
    "token_uri": f"https://{GOOGLE}/token",
}
USER = {
    "type": "authorized_user",
    "client_id": "cid",
    "client_secret": "user-client-secret-1",
    "refresh_token": "1//refresh-token-1",
    "quota_project_id": "quota-p",
}
ENTRA_ROW = {
    "kind": "azure_entra",
    "tenant_id": "tenant-1",
    "client_id": "client-1",
    "client_secret": "${SECRET}",
}


def wall_s() -> float:
    """Of this machine, which is right unless a test says that the others are not."""
    return AT_S + since_start_s()


def reply(
    status: int = 200, *, date_s: float | None = None, delay_s: float = 0.0, **told: Any
) -> FakeEndpoint:
    """One answer of a token endpoint."""
    headers = [("content-type", "application/json")]
    if date_s is not None:
        headers.append(("date", formatdate(date_s, usegmt=True)))
    body = orjson.dumps(told)
    return FakeEndpoint(status=status, headers=headers, headers_s=delay_s, chunks=[(0.0, body)])


def tokens(name: str = "token", life_s: float = 3600, **more: Any) -> list[FakeEndpoint]:
    """As many as a test will want, each another."""
    return [
        reply(access_token=f"{name}-{number:04d}", expires_in=life_s, token_type="Bearer", **more)
        for number in range(1, 200)
    ]


def form(request: UpstreamRequest) -> dict[str, str]:
    """What was sent to a token endpoint."""
    assert ("content-type", "application/x-www-form-urlencoded") in request.headers
    return dict(parse_qsl(request.body.decode(), strict_parsing=True))


def row(
    credential: dict[str, Any],
    *,
    folder: Path | None = None,
    secret: str = "entra-client-secret",
    **fields: Any,
) -> ProviderConfig:
    """A provider whose credential that is."""
    document = {
        "providers": {
            "p": {"wire": "openai_chat", "base_url": "https://p.test/v1", "credential": credential}
            | fields
        }
    }
    config = parse(document, environment={"SECRET": secret}, folder=folder or Path())
    return config.providers["p"]


def google_row(folder: Path, told: dict[str, Any], **fields: Any) -> ProviderConfig:
    """One with a file."""
    (folder / "key.json").write_bytes(orjson.dumps(told))
    return row({"kind": "google", "file": "key.json"}, folder=folder, **fields)


@dataclass
class World:
    """What a test looks at."""

    transport: MemoryTransport
    desk: CredentialDesk
    known: dict[str, list[str]]
    """Secrets by owner, as last told."""

    @classmethod
    def of(cls, endpoints: dict[str, FakeEndpoint | Sequence[FakeEndpoint]]) -> World:
        known: dict[str, list[str]] = {}

        def learn(owner: str, values: Sequence[str]) -> None:
            known[owner] = list(values)

        desk = CredentialDesk(learn, now_s=loop_s, make_ask=ask_over)
        return cls(MemoryTransport(endpoints), desk, known)

    async def start(self, *rows: ProviderConfig) -> Any:
        """The credential of the first row."""
        made = [self.desk.of(each) for each in rows]
        await self.desk.start(self.transport, self.named(*made))
        return made[0]

    @staticmethod
    def named(*credentials: Credential) -> dict[str, Credential]:
        return {f"p{number}": one for number, one in enumerate(credentials, 1)}

    def asked(self, host: str) -> list[MemoryAttempt]:
        return self.transport.to(host)

    def times_s(self, host: str) -> list[float]:
        """When it was asked, from the start on."""
        return [round(attempt.started_s - 1000.0, 3) for attempt in self.asked(host)]

    async def aclose(self) -> None:
        await self.desk.aclose()
        await self.transport.aclose()
        assert not self.transport.unfinished


def ask_over(transport: Transport, way: Way) -> Ask:
    return Ask(transport, way, now_s=loop_s, wall_s=wall_s, read=_read, run=_run)


async def _read(path: str) -> bytes:
    return Path(path).read_bytes()  # in a thread no virtual clock would wait for it


async def _run(work: Callable[[], Any]) -> Any:
    return work()


def token_of(credential: Credential) -> str | None:
    """What would be sent now; None: nothing can be."""
    try:
        headers = dict(credential.headers(call(), wall_s()))
    except CredentialUnavailable:
        return None
    return headers["authorization"].removeprefix("Bearer ")


def chances(*values: float) -> Callable[[], float]:
    """In turn, the last for ever."""
    drawn = itertools.chain(values, itertools.repeat(values[-1]))
    return lambda: next(drawn)
