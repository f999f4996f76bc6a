"""Generations, attempts and holds for the tests of the stores: one valid example each, of which a
test names only what it is about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from relay.store.base import (
    ClosedAttempt,
    Hold,
    OpenedAttempt,
    OpenedGeneration,
    SettledGeneration,
)

NOW_US: Final = 1_790_000_000_000_000
LEASE_S: Final = 30.0
LEASE_US: Final = 30_000_000

_OPENED: Final = OpenedGeneration(
    id="gen_1",
    instance_id="a",
    organisation_id="org_1",
    team_id="team_1",
    key_id="key_1",
    alias="fast",
    surface="chat",
    tags='["voice"]',
    labels='{"call":"7"}',
    session_id="session_1",
    turn_id="turn_1",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    admitted_at_us=NOW_US,
    lease_until_us=NOW_US + 10 * LEASE_US,
    holds=(),
)
_STARTED: Final = OpenedAttempt(
    ordinal=0, provider="openai", model="gpt-4o-mini", role="first", started_us=180, upper_micro=50
)
_CLOSED: Final = ClosedAttempt(
    ordinal=0,
    state="actual",
    provider="openai",
    model="gpt-4o-mini",
    role="first",
    outcome="success",
    reason="",
    http_status=200,
    is_winner=True,
    started_us=180,
    ended_us=900_000,
    prompt_tokens=120,
    cached_tokens=20,
    cache_write_tokens=0,
    output_tokens=40,
    reasoning_tokens=3,
    price_version="genai-prices 0.2.7",
    cost_micro=30,
    upper_micro=30,
    phases='{"pool_wait":12}',
)
_SETTLED: Final = SettledGeneration(
    id="gen_1",
    state="settled",
    settled_micro=30,
    ended_at_us=NOW_US + 900_000,
    reason="",
    provider="openai",
    model="gpt-4o-mini",
    is_usage_final=True,
    ttft_us=210_000,
    wall_us=900_000,
    phases='{"admission":40}',
    attempts=(),
)


def hold(budget_id: str = "bud_1", cap_micro: int | None = 1000, start_s: int = 0) -> Hold:
    """A budget in one period."""
    return Hold(budget_id, start_s, cap_micro)


def opened(
    generation_id: str = "gen_1", holds: Sequence[Hold] = (), **changes: Any
) -> OpenedGeneration:
    """A generation that begins."""
    return replace(_OPENED, id=generation_id, holds=tuple(holds), **changes)


def started(ordinal: int = 0, upper_micro: int | None = 50, **changes: Any) -> OpenedAttempt:
    """An attempt that begins."""
    return replace(_STARTED, ordinal=ordinal, upper_micro=upper_micro, **changes)


def closed(ordinal: int = 0, cost_micro: int | None = 30, **changes: Any) -> ClosedAttempt:
    """An attempt that is over."""
    return replace(_CLOSED, ordinal=ordinal, cost_micro=cost_micro, **changes)


def settled(
    generation_id: str = "gen_1", settled_micro: int = 30, **changes: Any
) -> SettledGeneration:
    """A generation that is over."""
    return replace(_SETTLED, id=generation_id, settled_micro=settled_micro, **changes)


def void(generation_id: str = "gen_1") -> SettledGeneration:
    """A generation that cost nothing."""
    return settled(generation_id, 0, state="void", provider="", model="", ttft_us=None)
