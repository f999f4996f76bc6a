"""What the models of these tests do, and the two processes' configurations that say so.

A client asks for an alias below, or for `lab/NAME` where a test scripted a model of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

TEXT = "Hello from behind the relay: naïve, 北京, 🚆. It ends here."
CITY = "Ulm"
DAYS = 3
OBJECT_JSON = '{"city": "Ulm", "days": 3}'

RESULT = "rain at 7 °C"
"""What the tools say."""
RESULTS = f"{RESULT}; {RESULT}"
"""The answer of a model that was told the results of two calls."""
REPEATS_RESULTS: Mapping[str, str] = {"text": "results"}
"""What a scripted model does after its calls: it says what it was told."""

ANSWERS = "answers"
"""Says `TEXT`."""
STRUCTURED = "structured"
"""Says `OBJECT_JSON`."""
LIMITED = "limited"
"""Refuses with 429 and a Retry-After of two seconds, always."""
ENDLESS = "endless"
"""Talks for a minute, a token every 20 ms."""
MUTE = "mute"
"""Never says anything."""
VECTORS = "vectors"
"""Makes vectors."""
UNKNOWN = "no-such-model"
"""No alias."""

RETRY_AFTER_S = 2

_FAST = {"ttft": "5", "itl": "1"}

MODELS: Mapping[str, Mapping[str, str]] = {
    ANSWERS: {**_FAST, "text": TEXT},
    STRUCTURED: {**_FAST, "text": OBJECT_JSON},
    LIMITED: {**_FAST, "fault": f"rate:{RETRY_AFTER_S}"},
    ENDLESS: {"ttft": "5", "itl": "20", "tokens": "3000"},
    MUTE: {"fault": "hang"},
    VECTORS: _FAST,
}

WIRES: Mapping[str, tuple[str, str]] = {
    "lab": ("openai_chat", "/v1"),
    "claude": ("anthropic_messages", ""),
    "gemini": ("gemini", "/v1beta"),
    "responses": ("openai_responses", "/v1"),
}
"""The emulator under each provider wire: name, wire, base path. Aliases ask `lab`."""


def emulator_config() -> dict[str, object]:
    """The emulator's file."""
    return {"models": {name: dict(behaviour) for name, behaviour in MODELS.items()}}


def relay_config(url: str, ca_file: str) -> dict[str, object]:
    """The relay's file: an alias a behaviour.

    Args:
        url: the emulator's address, without a path.
    """
    providers = {
        name: {"wire": wire, "base_url": f"{url}{path}", "ca_file": ca_file, "auth": "none"}
        for name, (wire, path) in WIRES.items()
    }
    aliases = {name: {"candidates": [{"provider": "lab", "model": name}]} for name in MODELS}
    free = {"address": "127.0.0.1:0"}
    return {
        "server": {name: dict(free) for name in ("grpc", "http", "admin")},
        "providers": providers,
        "models": aliases,
    }
