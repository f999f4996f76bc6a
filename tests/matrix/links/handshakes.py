"""TLS that is not as it must be."""

from __future__ import annotations

import datetime as dt
import ssl
import warnings
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import wreq
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

import relay.transport.wreq
from relay.transport.wreq import WreqEngine
from tests.fakes.h2_server import H2Server, stream_chunks
from tests.fakes.relay_under_test import Document
from tests.fakes.tls import CertAuthority
from tests.matrix.links.proxy import Proxy
from tests.matrix.links.telling import (
    Story,
    answered_by_spare,
    model,
    reasons,
    refused,
    row,
    story,
)
from tests.matrix.links.weaknesses import nobody_else_is_asked
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, PROVIDER_KEY, WHOLE_MICRO, whole_answer, world


def self_signed(folder: Path) -> ssl.SSLContext:
    """By nobody but itself, for the right name."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "self.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    context.set_alpn_protocols(["h2"])
    return context


def too_old(authority: CertAuthority, version: ssl.TLSVersion) -> ssl.SSLContext:
    """Speaks no newer one."""
    context = authority.server_context(alpn=("h2",))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore"):
        context.minimum_version = context.maximum_version = version
    return context


async def each_is_refused(stage: Stage, contexts: dict[str, ssl.SSLContext]) -> None:
    """Who would answer, if the relay went on talking to him, is not talked to."""
    async with AsyncExitStack() as stack:
        servers: dict[str, H2Server] = {}
        for name, context in contexts.items():
            server = H2Server(tls=context)
            server.default = stream_chunks(whole_answer("not to be trusted"))
            servers[name] = await stack.enter_async_context(server)
        rows = {
            name: row(stage, server.url.replace("127.0.0.1", "localhost"))
            for name, server in servers.items()
        }
        await all_fail_over(stage, rows)
        for server in servers.values():
            assert not server.streams, "it was told something"


async def all_fail_over(stage: Stage, rows: dict[str, Document]) -> None:
    """Each of these providers is TLS gone wrong, with and without one behind it."""
    models = {f"{name}-alone": model(name) for name in rows}
    models |= {f"{name}-pair": model(name, "spare") for name in rows}
    async with world(stage, {"providers": rows, "models": models}) as here:
        face = here.face()
        for name in rows:
            answered_by_spare(await here.ask(face, f"{name}-pair"))
            refused(await here.ask(face, f"{name}-alone"), face, "UPSTREAM_TLS", 502)
        booked = await here.booked(2 * len(rows))
        for name, saved, lost in zip(rows, booked[::2], booked[1::2], strict=True):
            wanted: Story = [(name, "primary", "free"), ("spare", "failover", "actual")]
            assert story(saved) == wanted
            assert saved.cost_micro == WHOLE_MICRO
            assert lost.state == "void"
            assert reasons(saved)[0] == reasons(lost)[0] == "UPSTREAM_TLS"


async def certificates(stage: Stage) -> None:
    ago = dt.timedelta(minutes=stage.draw.choice((5, 60 * 24 * 400)))
    localhost = ("localhost",)
    await each_is_refused(
        stage,
        {
            "expired": stage.authority.server_context(
                *localhost, alpn=("h2",), not_after=dt.datetime.now(dt.UTC) - ago
            ),
            "misnamed": stage.authority.server_context(
                stage.draw.choice(("other.example", "localhost.example", "127.0.0.1")),
                alpn=("h2",),
            ),
            "stranger": CertAuthority().server_context(*localhost, alpn=("h2",)),
            "selfsigned": self_signed(stage.tmp_path),
        },
    )


async def old_versions(stage: Stage) -> None:
    versions = {"one": ssl.TLSVersion.TLSv1, "oneone": ssl.TLSVersion.TLSv1_1}
    await each_is_refused(
        stage, {name: too_old(stage.authority, version) for name, version in versions.items()}
    )


async def cut_in_the_handshake(stage: Stage) -> None:
    """At a byte that is drawn, with an RST or a FIN."""
    lab = H2Server(tls=stage.authority.server_context(alpn=("h2",)))
    async with lab, Proxy(lambda: lab.port) as proxy:
        proxy.cut_after_bytes = stage.draw.choice((1, 5, 90, stage.draw.randint(1, 400)))
        proxy.resets = stage.draw.random() < 0.5
        await all_fail_over(stage, {"cut": row(stage, f"https://127.0.0.1:{proxy.port}")})
        assert not lab.streams
        assert proxy.wires
        for wire in proxy.wires:
            assert wire.asked[:2] == b"\x16\x03", "it spoke something else than TLS"
            assert PROVIDER_KEY.encode() not in wire.asked
            assert CHAT.encode() not in wire.asked


def everybody_is_trusted(patch: pytest.MonkeyPatch) -> None:
    """The verification of certificates."""
    patch.setattr(WreqEngine, "_trusted", lambda *_: False)


def any_version_will_do(patch: pytest.MonkeyPatch) -> None:
    """The oldest version of TLS that is spoken."""
    oldest = wreq.TlsVersion.TLS_1_0
    patch.setattr(relay.transport.wreq, "_MIN_TLS", oldest)


ROWS = {
    "U3": Row(
        "U3",
        inject="TLS: a certificate that is expired, for another name, self-signed or a stranger's; "
        "version 1.0 or 1.1; cut at any byte of the handshake",
        client="another provider's answer; else UNAVAILABLE / 502 `UPSTREAM_TLS` without a word of "
        "the certificate",
        accounting="void",
        retry="the next target; never over plain text, never unverified",
        parts=(
            Part("certificate", certificates, everybody_is_trusted),
            Part("old_version", old_versions, any_version_will_do),
            Part("cut", cut_in_the_handshake, nobody_else_is_asked),
        ),
        also=(
            "tests/transport/test_connect.py::test_a_certificate_that_is_not_trusted",
            "tests/transport/test_connect.py::test_tls_that_is_cut_in_its_handshake",
            "tests/transport/test_connect.py::test_tls_that_is_too_old",
        ),
    ),
}
