"""What the dashboard is looked at with: policies at work, and a team at its budget's end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from relay.administration import budgets
from relay.store import schema
from tests.fakes.admin_world import OPERATOR
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import Document, RelayUnderTest, chat_body
from tests.observability.pages.lab import Governed, document, governed_relay

TEAM: Final = "support"
UNSURE: Final = "I am not sure what my invoice says"
"""As the cascade's small model repeats what it is asked, the large one is asked then."""
WITH_ADDRESS: Final = "Write to jo.doe@example.com that I am late"
CALLS: Final = 24
FAQ: Final = tuple(f"When do you open on {day}?" for day in ("Monday", "Friday", "Sunday"))


def _priced(made: Document, models: Document) -> Document:
    """With prices: a dear north, a cheap south."""
    for provider, output in (("north", 10.0), ("south", 0.6)):
        names = {
            row["model"]
            for model in models.values()
            for row in model["candidates"]
            if row["provider"] == provider
        }
        price = {"input": output / 4, "output": output}
        row = made["providers"][provider]
        made["providers"][provider] = {**row, "prices": dict.fromkeys(names, price)}
    return {**made, "models": models}


def _alias(emulator: EmulatorProcess, seed: int, provider: str, name: str, way: str) -> Document:
    """One of a model that the emulator has behave like this; with a seed of its own its name is
    the test's own too."""
    model = f"{name}-{seed}" if seed else name
    emulator.script(model, f"emu:{way},seed={seed}")
    return {"candidates": [{"provider": provider, "model": model}]}


def policies_document(emulator: EmulatorProcess, seed: int) -> Document:
    """An experiment with a slow arm on `current`, a cascade (`help`), a cache of `faq`, a rule that
    sends what has the tag `batch` to a cheap model, and a guardrail that takes out addresses."""
    at = partial(_alias, emulator, seed)
    models = {
        "current": at("south", "swift-2", "ttft=60,itl=3,tokens=24"),
        "candidate": at("north", "swift-3", "ttft=420,itl=3,tokens=40"),
        "small": at("south", "mini", "ttft=40,itl=2,text=echo"),
        "large": at("north", "maxi", "ttft=160,itl=3,tokens=40"),
        "faq": at("south", "swift-2", "ttft=60,itl=3,tokens=24"),
        "cheap": at("south", "nano", "ttft=30,itl=2,tokens=12"),
    }
    arms = [{"name": "current", "use": "current"}, {"name": "candidate", "use": "candidate"}]
    escalate = {"phrases": ["I am not sure"]}
    return {
        **_priced(document(emulator, seed), models),
        "policies": {
            "rules": [{"name": "batch-is-cheap", "when": {"tags": ["batch"]}, "use": "cheap"}],
            "experiments": {"voice-ab": {"model": "current", "arms": arms, "sticky": "none"}},
            "cascades": {"help": {"small": "small", "large": "large", "escalate": escalate}},
        },
        "cache": {"exact": {"models": ["faq"]}},
        "guardrails": {
            "rails": {"no-addresses": {"scan": {"kind": "pii"}, "action": "redact"}},
        },
    }


async def policies_traffic(relay: RelayUnderTest) -> None:
    """Of each of them some, at last one that was escalated."""
    ask = relay.chat
    await asyncio.gather(*(ask(chat_body("current")) for _ in range(CALLS)))
    for _ in range(3):
        await asyncio.gather(*(ask(chat_body("faq", text)) for text in FAQ))
    tagged = (ask(chat_body("large"), x_relay_tags="batch") for _ in range(5))
    await asyncio.gather(*tagged)
    await asyncio.gather(*(ask(chat_body("help", f"Where is room {n}?")) for n in range(6)))
    await asyncio.gather(*(ask(chat_body("cheap", WITH_ADDRESS)) for _ in range(3)))
    await asyncio.gather(*(ask(chat_body("help", UNSURE)) for _ in range(2)))


@asynccontextmanager
async def spent_relay(
    folder: Path, emulator: EmulatorProcess, seed: int
) -> AsyncIterator[tuple[Governed, str]]:
    """A relay where nothing is slow and nothing fails, with two teams, of which one has used up its
    hard budget: its key."""
    at = partial(_alias, emulator, seed)
    models = {
        "chat": at("south", "swift-2", "ttft=60,itl=3,tokens=24"),
        "voice": at("north", "maxi", "ttft=30,itl=1,tokens=40"),
    }
    made = _priced(document(emulator, seed), models)
    async with governed_relay(folder, made) as world:
        desk, keyed = world.desk, world.keyed
        keyed.desk.change(schema.teams, "team_1", name=TEAM)
        keyed.desk.add(
            schema.teams, id="team_2", organisation_id="org_1", name="sales", created_at_us=1
        )
        key, other = await keyed.key("key_1"), await keyed.key("key_2", "team_2")

        def limited(team: str, micro: int, **more: Any) -> None:
            budgets.create_budget(
                desk, OPERATOR, "team", team, period="day", limit_micro=micro, is_hard=True, **more
            )

        limited("team_1", 20_000)
        limited("team_2", 1_000_000)
        await keyed.heard()
        for spender, count in ((other, 6), (key, 46)):
            for _ in range(count):
                await world.relay.chat(
                    chat_body("voice", max_tokens=60), authorization=f"Bearer {spender}"
                )
        yield world, key
