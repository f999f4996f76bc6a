"""Guardrails over an answer that comes in pieces: a secret cut anywhere, made long, hidden."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import pytest

from relay.guardrails.text_guard import TextGuard
from tests.fakes.h2_server import ServerStream
from tests.fakes.relay_under_test import DONE, Document, chunk
from tests.guardrails.secret_samples import run
from tests.matrix.process.place import ask
from tests.matrix.row import Part, Row, Stage
from tests.matrix.world import CHAT, FACES, USAGE, WHOLE_MICRO, word, world

SECRET: Final = "ghp_" + run(36)
HEAD, TAIL = "Sure ünïcode 👍: ", " and so on."


def _rails(action: str) -> Document:
    keys: Document = {"scan": {"kind": "secrets"}, "sides": ["output"], "action": action}
    words: Document = {
        "scan": {"kind": "denied", "terms": ["project nightingale"]},
        "sides": ["output"],
        "action": action,
    }
    return {"guardrails": {"rails": {"keys": keys, "words": words}}}


class Pieces:
    """A provider that says a text in these pieces; `raw` are cuts of what is on the wire."""

    def __init__(self) -> None:
        self.pieces: Sequence[str] = ()
        self.raw: int | None = None
        """Bytes after which the first event is cut in two."""

    async def script(self, stream: ServerStream) -> None:
        await stream.send_headers()
        for piece in self.pieces:
            event = word(piece)
            cuts = [event] if self.raw is None else [event[: self.raw], event[self.raw :]]
            for part in filter(None, cuts):
                await stream.send(part)
        end = chunk(finish="stop") + chunk(usage=USAGE, choices=[]) + DONE
        await stream.send(end, end=True)


async def split_anywhere(stage: Stage) -> None:
    """In two pieces, at each character of the secret, and once at each byte of an event."""
    lab = Pieces()
    text = f"{HEAD}{SECRET}{TAIL}"
    begin = len(HEAD)
    async with world(stage, _rails("redact"), limit_micro=10**9) as here:
        here.lab.routes[CHAT] = lab.script
        for at in range(begin, begin + len(SECRET) + 1):
            lab.pieces = [text[:at], text[at:]]
            lab.raw = stage.draw.randrange(1, 40)
            reply = await ask(here.relay, stage.draw.choice(FACES))
            assert reply.text == f"{HEAD}[SECRET]{TAIL}", (at, reply)
            assert SECRET[:12] not in reply.everything
        lab.pieces, lab.raw = list(text), None
        reply = await ask(here.relay, here.face())
        assert reply.text == f"{HEAD}[SECRET]{TAIL}"
        for booked in await here.booked(len(SECRET) + 2):
            assert (booked.state, booked.cost_micro) == ("settled", WHOLE_MICRO)


async def blocked_before_release(stage: Stage) -> None:
    """A run of 600 characters, longer than most windows, in pieces of a drawn length."""
    lab = Pieces()
    secret = "sk-" + run(600)
    text = f"{HEAD}{secret}{TAIL}"
    size = stage.draw.randint(1, 90)
    lab.pieces = [text[at : at + size] for at in range(0, len(text), size)]
    async with world(stage, _rails("block")) as here:
        here.lab.routes[CHAT] = lab.script
        for face in stage.draw.sample(("sse", "generate", "converse"), k=2):
            reply = await ask(here.relay, face)
            assert HEAD.startswith(reply.text), reply
            assert secret[:12] not in reply.everything
            assert "content_filter" in reply.everything.lower() or not reply.is_clean
        for booked in await here.booked(2):
            assert booked.state in {"settled", "estimated"}
            assert booked.cost_micro > 0, "what the provider said is paid for"


async def hidden(stage: Stage) -> None:
    """What cannot be seen within a secret, and look-alikes within a word of the operator's."""
    lab = Pieces()
    at = stage.draw.randrange(6, 30)
    unseen = ["\u200b", "\u2060", "\U000e0041", "\ufe0f", "\u00ad", "\u202e"]
    alike = "pr\u043ej\u0435ct n\u0456ghting\u0430le"
    async with world(stage, _rails("redact")) as here:
        here.lab.routes[CHAT] = lab.script
        for odd in stage.draw.sample(unseen, k=3):
            lab.pieces = [f"{HEAD}{SECRET[:at]}{odd}", f"{SECRET[at:]}{TAIL}"]
            reply = await ask(here.relay, stage.draw.choice(FACES))
            assert reply.text == f"{HEAD}[SECRET]{TAIL}", (odd, reply)
        lab.pieces = [HEAD, alike[:9], alike[9:], TAIL]
        reply = await ask(here.relay, here.face())
        assert reply.text == f"{HEAD}[REMOVED]{TAIL}", reply
        await here.booked(4)


def each_piece_by_itself(patch: pytest.MonkeyPatch) -> None:
    """What is held back of a piece until it is known how it goes on."""
    feed, finish = TextGuard.feed, TextGuard.finish

    def alone(guard: TextGuard, text: str) -> str:
        one = TextGuard(guard._plan)
        return feed(one, text) + finish(one)

    patch.setattr(TextGuard, "feed", alone)
    patch.setattr(TextGuard, "finish", lambda _: "")


async def not_covered(stage: Stage) -> None:
    """Encodings, spelling out, and look-alikes in secrets: they pass, as the page says."""
    coded = base64.b64encode(SECRET.encode()).decode()
    spelt = " ".join(SECRET)
    alike = SECRET.replace("h", "\u04bb", 1)
    lab = Pieces()
    async with world(stage, _rails("redact")) as here:
        here.lab.routes[CHAT] = lab.script
        for text in (coded, spelt, alike, SECRET[::-1]):
            lab.pieces = [HEAD, text[:7], text[7:]]
            reply = await ask(here.relay, stage.draw.choice(FACES))
            assert reply.text == f"{HEAD}{text}", "it is covered by now: say so on the page"
        await here.booked(4)


ROWS = (
    Row(
        "P13",
        inject="guardrails: a secret split at every place over pieces, a run of 600 characters,"
        " invisible characters, look-alikes, base64",
        client="masked or blocked before any of it is out, for literals and patterns; encodings,"
        " spelling out and look-alikes in secrets pass, as"
        " [the page](guardrails-scanners.md#normalised-first) says",
        accounting="what the provider said is paid for",
        retry="none",
        parts=(
            Part("split_anywhere", split_anywhere, each_piece_by_itself),
            Part("run_of_600", blocked_before_release, each_piece_by_itself),
            Part("hidden", hidden, each_piece_by_itself),
            Part("not_covered", not_covered, undefended="they are not covered"),
        ),
        also=(
            "tests/guardrails/test_split_secrets.py",
            "tests/guardrails/test_output_stream.py",
            "tests/guardrails/test_hold_back.py",
            "tests/guardrails/test_normalise.py",
            "tests/guardrails/test_linear_time.py",
        ),
    ),
)
