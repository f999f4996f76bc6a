"""The call that `relay demo` plays: what is said in it, and how its providers behave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from relay.calls.script import Call, Interim, Tool, Turn

NORTH, SOUTH = "north", "south"
FIRST_TOKEN_MS: Final = 600
"""Until a provider is given up, where nothing is hedged."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One turn of the call, and the alias that is asked in it."""

    title: str
    turn: Turn
    alias: str
    models: tuple[str, ...]
    """Of the first provider, and of the second."""
    hedge_ms: int | None = None


SCENES: Final = (
    Scene(
        "1. Two guesses while the caller speaks; the second one is right, and is committed to",
        Turn(
            "Good morning! When do you open on Saturday?",
            speech_ms=1700,
            answer="At nine. The last appointment on Saturday is at half past twelve, and there is"
            " one left at nine. Would you like it?",
            interims=(
                Interim(950, "Good morning! When do you open?"),
                Interim(1650, "Good morning! When do you open on Saturday?"),
            ),
        ),
        "receptionist",
        ("hours",),
    ),
    Scene(
        "2. The caller barges in",
        Turn(
            "And which doctors are there, please?",
            speech_ms=1200,
            answer="There are four doctors in the practice. Doctor Amara is our paediatrician,"
            " Doctor Lindqvist looks after hearts, and Doctor Okafor has been with us since the"
            " house was built, which was in the spring of nineteen ninety-two, when the street was"
            " still a lane.",
            barge_in_after_chars=24,
        ),
        "talkative",
        ("doctors",),
    ),
    Scene(
        "3. A guess that is wrong, and a tool before the answer",
        Turn(
            "Just book me with Amara, at nine.",
            speech_ms=1300,
            answer="Nine o'clock on Saturday is yours. Bring your insurance card, please.",
            interims=(Interim(800, "Just book me with Amara."),),
            tool=Tool("book_appointment", 300, '{"booked": "Saturday 09:00"}'),
        ),
        "clerk",
        ("booking",),
    ),
    Scene(
        "4. The provider hangs: the relay asks the next one within the same turn",
        Turn(
            "Where can I park?",
            speech_ms=700,
            answer="Behind the house. The gate opens at half past eight.",
        ),
        "unlucky",
        ("hangs", "parking"),
    ),
    Scene(
        "5. The provider is slow: a second one is asked beside it, and overtakes",
        Turn(
            "And remind me the evening before.",
            speech_ms=1000,
            answer="I have put a reminder down for Friday at six in the evening. Goodbye!",
        ),
        "sluggish",
        ("slow", "reminder"),
        hedge_ms=400,
    ),
)

CALL: Final = Call("demo", tuple(scene.turn for scene in SCENES))

_PACES: Final[dict[str, dict[str, object]]] = {
    "hours": {"ttft": "220", "itl": "25"},
    "doctors": {"ttft": "200", "itl": "50"},
    "booking": {"ttft": "200", "itl": "18"},
    "hangs": {"fault": "hang"},
    "parking": {"ttft": "180", "itl": "18"},
    "slow": {"ttft": "2600", "itl": "18"},
    "reminder": {"ttft": "180", "itl": "18"},
}
"""Latencies of a quick hosted model, but for `hangs` and `slow`."""


def models() -> dict[str, dict[str, object]]:
    """The emulated models: how fast they are, and what they say."""
    return {
        model: {**_PACES[model], "text": scene.turn.answer}
        for scene in SCENES
        for model in scene.models
    }


def provider_of(model: str) -> str:
    """Who has it."""
    is_first = any(model == scene.models[0] for scene in SCENES)
    return NORTH if is_first else SOUTH


class DemoStage:
    """Everybody says what the script says."""

    def model(self, turn: Turn) -> str:
        """See `Stage.model`."""
        return next(scene.alias for scene in SCENES if scene.turn is turn)

    def words(self, turn: Turn, transcript: str, tag: str) -> str:
        """See `Stage.words`."""
        return transcript

    def expected(self, turn: Turn, words: str) -> str:
        """See `Stage.expected`."""
        return turn.answer
