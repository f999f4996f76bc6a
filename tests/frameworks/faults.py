"""The faults that the plugins and the OpenAI-compatible path are held to, and what each may cost.

One row a fault: how the first provider misbehaves, the time limits of its alias, and what the
client must see, with a healthy second candidate behind it and without one. Budgets are what the
limits promise: a test adds `SLACK_MS` for the machine.

Every test has aliases and models of its own (`alias(fault, use)`): breakers and rate limits are
kept per target, and one test must not spare the next one its fault.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_TEXT = "The first provider says one, two, three, four, five. Then it says six and seven."
SECOND_TEXT = "Another provider answers instead. Every word of this is its own."
"""They share no beginning, so that a splice shows."""

SLACK_MS = 250
"""Beyond the stated budgets: two shared cores, three processes."""

TIMEOUTS_MS: Mapping[str, int] = {
    "connect_ms": 300,
    "first_token_ms": 400,
    "inter_token_ms": 400,
    "total_ms": 4_000,
}
HEALTHY_MS = 200
"""The second's whole answer (20 ms to the first token, 2 ms between tokens), generously."""

USES = (
    "livekit-native",
    "livekit-segment",
    "livekit-openai",
    "livekit-fallback",
    "pipecat-native",
    "pipecat-segment",
    "pipecat-openai",
    "bench",
)
"""Whoever goes through the table; each has aliases of its own."""


class Outcome(enum.Enum):
    """What the client sees."""

    FIRST = "the whole text of the first"
    SECOND = "the whole text of the second, and nothing of the first"
    TOOLS = "the first's tool calls, complete"
    CUT = "the beginning of the first's text, then an error"
    ERROR = "an error and no text"


@dataclass(frozen=True)
class Fault:
    """One row."""

    name: str
    doc: str
    behaviour: str = ""
    """Of the first provider's model, as the emulator's scripts say it."""
    provider: str = "lab"
    """`lab` is the emulator, `slow-tls` and `goaway` are what `edge.py` serves."""
    model: str = ""
    """At the edge, where models have fixed names."""
    timeouts_ms: Mapping[str, int] = field(default_factory=lambda: TIMEOUTS_MS)
    outcome: Outcome = Outcome.SECOND
    """With a second candidate."""
    alone: Outcome = Outcome.ERROR
    """Without one."""
    by_segment: Outcome | None = None
    """With a second candidate and `commit_on: first_segment`, where that is another."""
    heard: str = ""
    """With CUT: what came before the error, at most."""
    tools: int = 0
    limit_ms: int = 0
    """When the fault is noticed, from the start of its attempt."""
    http_status: int = 0
    """Of the error without a second candidate, over HTTP."""

    @property
    def with_second_ms(self) -> int:
        """From the request to the end, with a second candidate."""
        return self.limit_ms + HEALTHY_MS

    @property
    def alone_ms(self) -> int:
        """From the request to the end, without one."""
        return self.limit_ms + (HEALTHY_MS if self.alone is not Outcome.ERROR else 0)


_FIRST = TIMEOUTS_MS["first_token_ms"]
_STALL = TIMEOUTS_MS["inter_token_ms"]

FAULTS: tuple[Fault, ...] = (
    Fault("hang", "no headers, ever", "fault=hang", limit_ms=_FIRST, http_status=504),
    Fault("silent", "headers, then silence", "fault=silent", limit_ms=_FIRST, http_status=504),
    Fault(
        "role-only",
        "an opening chunk, then silence",
        "fault=role-only",
        limit_ms=_FIRST,
        http_status=504,
    ),
    Fault(
        "keepalives",
        "comments and nothing else",
        "fault=comments:50",
        limit_ms=_FIRST,
        http_status=504,
    ),
    Fault(
        "stall",
        "one token, then silence",
        "fault=stall@1",
        outcome=Outcome.CUT,
        alone=Outcome.CUT,
        by_segment=Outcome.SECOND,
        heard="The",
        limit_ms=_STALL + 50,
    ),
    Fault(
        "dribble",
        "a character a second",
        "itl=1000,text=a b c d e f g h",
        timeouts_ms={**TIMEOUTS_MS, "inter_token_ms": 1_500, "total_ms": 1_600},
        outcome=Outcome.CUT,
        alone=Outcome.CUT,
        by_segment=Outcome.SECOND,
        heard="a b",
        limit_ms=1_600,
    ),
    Fault(
        "reset",
        "RST_STREAM in mid-stream",
        # Slow enough for the first token to be read before the reset takes what is unread with it.
        "itl=30,fault=reset@5",
        outcome=Outcome.CUT,
        alone=Outcome.CUT,
        by_segment=Outcome.SECOND,
        heard="The first provider says one",
        limit_ms=250,
    ),
    Fault("rate", "429 with Retry-After", "fault=rate:7", limit_ms=100, http_status=429),
    Fault("unavailable", "503", "fault=status:503", limit_ms=100, http_status=503),
    Fault(
        "two-tools",
        "two tool calls in one chunk",
        "tools=2,fault=tools-in-one-chunk",
        outcome=Outcome.TOOLS,
        alone=Outcome.TOOLS,
        tools=2,
    ),
    Fault(
        "split-id",
        "id and name of a tool call in two chunks",
        "tools=1,fault=split-id",
        outcome=Outcome.TOOLS,
        alone=Outcome.TOOLS,
        tools=1,
    ),
    Fault(
        "length-after-tool",
        "finish reason `length` after a whole tool call",
        "tools=1,fault=length-after-tool",
        outcome=Outcome.TOOLS,
        alone=Outcome.TOOLS,
        tools=1,
    ),
    Fault(
        "slow-tls",
        "the TLS handshake takes longer than anybody waits",
        provider="slow-tls",
        model="slow-tls",
        limit_ms=TIMEOUTS_MS["connect_ms"],
        http_status=503,
    ),
    Fault(
        "goaway",
        "GOAWAY that says the request was not processed",
        provider="goaway",
        model="goaway-refused",
        limit_ms=200,
        http_status=503,
    ),
    Fault(
        "goaway-mid",
        "GOAWAY in mid-stream; the stream itself goes on",
        provider="goaway",
        model="goaway-mid",
        outcome=Outcome.FIRST,
        alone=Outcome.FIRST,
        limit_ms=100,
    ),
)

_FAST = "ttft=20,itl=2"


def alias(fault: Fault, use: str, *, alone: bool = False) -> str:
    """The model that a client asks the relay for."""
    return f"{fault.name}.{use}{'.alone' if alone else ''}"


def first_model(fault: Fault, name: str) -> str:
    """What the first provider of an alias is asked for."""
    return fault.model or name


def second_model(name: str) -> str:
    """What the second provider of an alias is asked for."""
    return f"second.{name}"


def _names() -> list[tuple[str, Fault, bool]]:
    return [
        (alias(fault, use, alone=alone), fault, alone)
        for fault in FAULTS
        for use in USES
        for alone in (False, True)
    ]


def emulator_config() -> dict[str, object]:
    """The emulator's file: what each model does."""
    models: dict[str, object] = {}
    for name, fault, alone in _names():
        text = "" if "tools=" in fault.behaviour or "text=" in fault.behaviour else FIRST_TEXT
        if fault.provider == "lab":
            pairs = dict(part.split("=", 1) for part in f"{_FAST},{fault.behaviour}".split(","))
            models[name] = {**({"text": text} if text else {}), **pairs}
        if not alone:
            models[second_model(name)] = {"ttft": "20", "itl": "2", "text": SECOND_TEXT}
    return {"models": models}


def relay_config(urls: Mapping[str, str], ca_file: str) -> dict[str, object]:
    """The relay's file: a provider a place, an alias a fault and use.

    Args:
        urls: the address of each provider, without `/v1`.
    """
    row = {"wire": "openai_chat", "ca_file": ca_file, "auth": "none"}
    models: dict[str, object] = {}
    for name, fault, alone in _names():
        first = {"provider": fault.provider, "model": first_model(fault, name)}
        second = {"provider": "lab", "model": second_model(name)}
        models[name] = {
            "candidates": [first] if alone else [first, second],
            "timeouts": dict(fault.timeouts_ms),
        }
    return {
        "providers": {name: {**row, "base_url": f"{url}/v1"} for name, url in urls.items()},
        "models": models,
    }
