"""A provider that refuses our own key, and one that sends us elsewhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import wreq

from relay import attempt
from relay.codecs import anthropic_errors, gemini_errors, openai_errors
from relay.credentials.static import StaticCredential
from relay.emulator.wires.base import Failure
from relay.errors import Reason
from relay.transport import wreq as engine
from tests.fakes.h2_server import H2Server, Script, ServerStream, answer
from tests.fakes.metrics_page import MetricsPage
from tests.matrix.bodies.refused import GRPC, as_operator, keys_shown, refuses
from tests.matrix.bodies.wires import BY_NAME, on, path, sends, spoken
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import PROVIDER_KEY, merged, world
from tests.surfaces.wires import WIRES, ProviderWire

SECOND_KEY = "second-key-of-our-own-account-9876543210"


def refuses_our_key(stage: Stage, wire: ProviderWire) -> Script:
    """401, or 403 with the words for it; it quotes the key, whole or cut."""
    quoted = stage.draw.choice([PROVIDER_KEY, PROVIDER_KEY[:25], f"Bearer {PROVIDER_KEY}"])
    failure = Failure(401, "auth", f"Incorrect API key provided: {quoted}")
    has_words = wire.name in ("openai_chat", "openai_responses", "ollama")
    status = stage.draw.choice([401, 403]) if has_words else None
    return refuses(wire, failure, status=status)


async def our_key_refused(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    async with world(stage, on(wire)) as here:
        here.lab.routes[path(wire)] = refuses_our_key(stage, wire)
        face = here.face()
        reply = await here.ask(face, "alone")
        assert reply.reason == "UPSTREAM_MISCONFIGURED", reply
        assert reply.code == ("14" if face in GRPC else "503"), "it is no word on the caller's own"
        assert "Incorrect API key provided" in reply.message
        assert PROVIDER_KEY[:12] not in reply.everything
        spared = await here.ask(here.face())
        assert (spared.text, spared.provider) == ("spare words", "spare")
        async with as_operator(here) as admin:
            page = await MetricsPage.get(admin)
            state = (await admin.get("/admin/state")).text
        told = page.by("reason", "rtrelay_attempt_errors_total", provider="lab")
        assert told == {"upstream_misconfigured": 2.0}, "there is something to alert by"
        assert PROVIDER_KEY[:12] not in state
        first, second = await here.booked(2)
        assert (first.state, second.state) == ("void", "settled")
        assert [one["state"] for one in second.attempts] == ["free", "actual"]


async def other_key(stage: Stage) -> None:
    wire = stage.draw.choice([wire for wire in WIRES if wire is not BY_NAME["gemini"]])
    refuse = refuses_our_key(stage, wire)
    clean = sends(wire, spoken(wire, "One", " two").parts)

    async def by_key(stream: ServerStream) -> None:
        (key,) = keys_shown([stream])
        await (clean if key == SECOND_KEY else refuse)(stream)

    stage.patch.setenv("MATRIX_SECOND_KEY", SECOND_KEY)
    keys = {"api_key": None, "api_keys": ["${MATRIX_KEY}", "${MATRIX_SECOND_KEY}"]}
    async with world(stage, merged(on(wire), {"providers": {"lab": keys}})) as here:
        here.lab.routes[path(wire)] = by_key
        for _ in range(3):
            reply = await here.ask(here.face(), "alone")
            assert reply.is_clean, reply
            assert reply.text == "One two"
        shown = keys_shown(here.lab.requests(path(wire)))
        assert shown == [PROVIDER_KEY, *[SECOND_KEY] * 3], "the refused one is left alone"
        async with as_operator(here) as admin:
            state = (await admin.get("/admin/state")).text
        assert "1 of 2 keys refused lately" in state
        assert PROVIDER_KEY[:12] not in state
        assert SECOND_KEY[:12] not in state
        booked = await here.booked(3)
        assert [one.state for one in booked] == ["settled"] * 3
        assert [one["role"] for one in booked[0].attempts] == ["primary", "retry"]


# --- redirects ------------------------------------------------------------------------------------


async def sent_elsewhere(stage: Stage) -> None:
    wire = stage.draw.choice(WIRES)
    status = stage.draw.choice([301, 302, 303, 307, 308])
    model = stage.draw.choice(["alone", "pair"])
    async with H2Server(tls=stage.authority.server_context(alpn=("h2",))) as elsewhere:
        stolen = sends(wire, spoken(wire, "stolen").parts)
        target = f"{elsewhere.url}{path(wire)}"
        elsewhere.default = stolen
        location = stage.draw.choice([target, target.removeprefix("https:")])
        async with world(stage, on(wire)) as here:
            head = [("location", location), ("content-type", "text/html")]
            here.lab.routes[path(wire)] = answer(status, b"<a>moved</a>", head)
            face = here.face()
            reply = await here.ask(face, model)
            (booked,) = await here.booked(1)
            assert booked.attempts[0]["state"] == "free"
            assert booked.attempts[0]["reason"] == "UPSTREAM_REDIRECT"
            if model == "pair":
                assert (reply.text, reply.provider) == ("spare words", "spare"), reply
            else:
                assert reply.reason == "UPSTREAM_REDIRECT", reply
                assert reply.code == ("14" if face in GRPC else "502")
                assert "moved" not in reply.everything
            assert len(here.lab.requests(path(wire))) == 1
        assert not elsewhere.connections, "nobody went there"


# --- defences -------------------------------------------------------------------------------------


def keys_are_not_masked(patch: pytest.MonkeyPatch) -> None:
    """The masking of our own key in providers' words"""
    patch.setattr(attempt, "redact", lambda *_: None)


def refusals_are_the_caller_s(patch: pytest.MonkeyPatch) -> None:
    """That a refused key is ours and not the caller's"""
    for place, names in ((openai_errors, ("_BY_STATUS",)),):
        for name in names:
            table = dict(getattr(place, name))
            table[401] = Reason.UPSTREAM_PERMISSION_DENIED
            patch.setattr(place, name, table)
    patch.setattr(openai_errors, "_BY_PHRASE", ())
    patch.setattr(openai_errors, "_BY_WORD", {})
    for place in (anthropic_errors, gemini_errors):
        patch.setattr(place, "_classify", lambda *_: Reason.UPSTREAM_PERMISSION_DENIED)


def keys_are_not_quarantined(patch: pytest.MonkeyPatch) -> None:
    """The quarantine of a key that is refused"""
    patch.setattr(StaticCredential, "answered", lambda *_: False)


def redirects_are_followed(patch: pytest.MonkeyPatch) -> None:
    """That no redirect is followed"""
    real: Any = wreq

    def client(**config: Any) -> Any:
        return real.Client(**{**config, "redirect": real.redirect.Policy.limited(3)})

    names = {name: getattr(real, name) for name in dir(real) if not name.startswith("__")}
    patch.setattr(engine, "wreq", SimpleNamespace(**{**names, "Client": client}))


ROWS = (
    Row(
        "U25",
        inject="401 or 403 for our own key, which the provider quotes",
        client="UNAVAILABLE, 503 `UPSTREAM_MISCONFIGURED`, never 401",
        accounting="void",
        retry="by another key of the row at once, the refused one is left alone for a minute and"
        " more; else other upstream. `rtrelay_attempt_errors_total` tells; the key is nowhere",
        parts=(
            Part("one_key", our_key_refused, refusals_are_the_caller_s),
            Part("masked", our_key_refused, keys_are_not_masked),
            Part("other_key", other_key, keys_are_not_quarantined),
        ),
        also=("tests/test_attempt_credentials.py", "tests/credentials/test_static.py"),
    ),
    Row(
        "U26",
        inject="a redirect to another host, 301 to 308",
        client="502 `UPSTREAM_REDIRECT`",
        accounting="void",
        retry="other upstream; never followed",
        parts=(Part("redirect", sent_elsewhere, redirects_are_followed),),
        also=("tests/transport/test_conformance.py",),
    ),
)
