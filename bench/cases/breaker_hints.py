"""How many requests meet a dead provider, with workers that tell each other and without.

Needs no rig: the real planner, race, breakers and desks of four workers, on a simulated clock. The
preferred one of two providers dies for 90 s: it refuses connections, or takes them and is silent.
Requests come at random, to all workers alike, or 85 % to one, as when a few sessions sit there.
`hits` are attempts that met it while it was dead, `first_hits` those of the first 25 s, before
anybody probes after 30 s. `late` are requests whose first token took longer than 1.5 s meanwhile;
`late_others` those of them at the three workers that are asked less.

The last rows are the other side: the provider is dead for one worker alone, whose network it is,
and answers the others, but for 1 attempt in 50 that fails as it does on any day. `elsewhere_s` is
for how many seconds in all it was ejected at the other three, of 900.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.result import CaseResult
from bench.rig import Rig
from relay.config import parse
from relay.content import GenerateRequest, Message, Role, TextPart
from relay.errors import ConnectError, FirstTokenTimeout, RelayError
from relay.hints.desk import HintDesk
from relay.outcome import AttemptOutcome, AttemptRecord, AttemptRole, GenerationEnd
from relay.planner import Planner
from relay.race import run_race
from relay.reaper import Reaper
from relay.resilience.breaker import BreakerState
from relay.routing.catalog import Catalog
from relay.routing.plan import PlannedAttempt
from relay.routing.target import Target
from relay.target_state import REFRESH_S, TargetStates, Ticket
from relay.whatif import clock

WORKERS: Final = 4
WARM_S: Final = 120.0
DEAD_S: Final = 90.0
AFTER_S: Final = 90.0
FIRST_S: Final = 25.0
WAY_S: Final = 0.002
"""Of a hint to another worker of the machine, as measured: 1 ms and a turn of a loop."""
REFUSED_S: Final = 0.005
LATE_S: Final = 1.5
FLAKY: Final = 0.02
_MEDIANS_S: Final = {"a": 0.35, "b": 0.45}
_STREAM_S: Final = 1.5
_DOCUMENT: Final[dict[str, Any]] = {
    "providers": {
        name: {"wire": "openai_chat", "base_url": f"https://{name}.test/v1", "auth": "none"}
        for name in _MEDIANS_S
    },
    "models": {
        "fast": {
            "candidates": [{"provider": name, "model": "m"} for name in _MEDIANS_S],
            "hedge": {"mode": "active"},
        }
    },
}
_REQUEST: Final = GenerateRequest("fast", (Message(Role.USER, (TextPart("Hello"),)),))


@dataclass(slots=True)
class World:
    """One run."""

    rate: float
    shares: tuple[float, ...]
    is_silent: bool
    has_hints: bool
    rng: random.Random
    dead_for: Callable[[int], bool] = lambda worker: True
    flaky: float = 0.0
    hits: int = 0
    first_hits: int = 0
    late: int = 0
    late_others: int = 0
    ejected_s: list[float] = field(default_factory=lambda: [0.0] * WORKERS)

    def is_dead(self, now_s: float) -> bool:
        return WARM_S <= now_s - clock.START_S < WARM_S + DEAD_S


class Asked:
    """One attempt; a `relay.race.Contender`."""

    def __init__(self, worker: Worker, target: Target, role: AttemptRole, is_forced: bool) -> None:
        self._worker = worker
        self._target = target
        self._is_forced = is_forced
        self._ticket: Ticket | None = None
        self._has_content = self._is_over = self._runs_on = False
        provider = target.endpoint.provider
        self.record = AttemptRecord(provider=provider, model="m", started_us=0, role=role)

    async def run_until_ready(self) -> None:
        """See `relay.race.Contender`."""
        worker = self._worker
        try:
            await self._content(worker)
        except asyncio.CancelledError:
            self.abort()
            raise
        except RelayError as error:
            self._end(AttemptOutcome.FAILURE, error)
            raise
        if self._runs_on:
            self._end(AttemptOutcome.SUCCESS)

    async def _content(self, worker: Worker) -> None:
        world, now_s = worker.world, worker.now()
        state = worker.planner.states.of(self._target, now_s)
        self._ticket = state.admit(
            now_s, name=self._target.name, prompt_tokens=10, forced=self._is_forced
        )
        name = self._target.endpoint.provider
        if name == "a":
            if world.is_dead(now_s) and world.dead_for(worker.number):
                world.hits += 1
                world.first_hits += now_s - clock.START_S < WARM_S + FIRST_S
                if world.is_silent:
                    await asyncio.sleep(worker.first_token_s)
                    raise FirstTokenTimeout("silent")
                await asyncio.sleep(REFUSED_S)
                raise ConnectError("refused")
            if world.rng.random() < world.flaky:
                await asyncio.sleep(REFUSED_S)
                raise ConnectError("as on any day")
        await asyncio.sleep(_MEDIANS_S[name] * world.rng.lognormvariate(0.0, 0.35))
        self._has_content = True
        self._ticket.ready(worker.now())

    def overdue(self) -> None:
        """See `relay.race.Contender`."""
        if self._ticket is not None:
            self._ticket.overdue(self._worker.now())

    def lose(self) -> bool:
        """See `relay.race.Contender`: a probe or a trial runs on."""
        self.record.is_loser = True
        ticket = self._ticket
        if ticket is not None and ticket.is_probe and not (self._has_content or self._is_over):
            self._runs_on = True
            return True
        self.abort()
        return False

    def abort(self) -> None:
        """See `relay.race.Contender`."""
        self._end(AttemptOutcome.IGNORED)

    def finish(self) -> None:
        """The answer is over."""
        self._end(AttemptOutcome.SUCCESS)

    def _end(self, outcome: AttemptOutcome, error: RelayError | None = None) -> None:
        if not self._is_over:
            self._is_over = True
            self.record.outcome, self.record.error = outcome, error
            if self._ticket is not None:
                self._ticket.end(outcome, self._worker.now(), error=error)


class Worker:
    """One of the four."""

    def __init__(self, world: World, number: int, peers: list[Worker]) -> None:
        self.world = world
        self.number = number
        self.now = asyncio.get_running_loop().time
        draw = world.rng.random
        self.planner = Planner(TargetStates(draw=draw), self.now, draw=draw)
        self.route = Catalog(parse(_DOCUMENT)).routes["fast"]
        self.first_token_s = self.route.timeouts_for(_REQUEST).first_token_s
        self._reaper = Reaper()
        self._peers = peers
        self._running: set[asyncio.Task[None]] = set()
        self.desk = HintDesk(self.planner.states, self.now, f"i_{number}", lambda target: "there")
        if world.has_hints:
            self.desk.attach(self)

    def publish(self, hint: dict[str, Any]) -> bool:
        """See `HintBus`."""
        for peer in self._peers:
            if peer is not self:
                asyncio.get_running_loop().call_later(WAY_S, peer.desk.take, hint)
        return True

    def describe(self) -> dict[str, Any]:
        """See `HintBus`."""
        return {}

    async def aclose(self) -> None:
        """See `HintBus`."""

    async def upkeep(self) -> None:
        """Figures every 3 s; how long `a` was ejected."""
        a = self.route.candidates[0]
        while True:
            await asyncio.sleep(REFRESH_S)
            for _, state in list(self.planner.states.items()):
                if state.has_news:
                    state.refresh(self.now())
            opened = self.planner.states.of(a, self.now()).breaker.state
            if opened in (BreakerState.OPEN, BreakerState.HALF_OPEN):
                self.world.ejected_s[self.number] += REFRESH_S

    def arrive(self) -> None:
        """A request comes."""
        task = asyncio.get_running_loop().create_task(self._serve())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _serve(self) -> None:
        received_s = self.now()
        plan = self.planner.plan(self.route, _REQUEST, prompt_tokens=10, elapsed_s=0.0)
        attempts: list[Asked] = []

        def start(step: PlannedAttempt, role: AttemptRole) -> Asked:
            attempts.append(Asked(self, step.target, role, plan.is_forced(step)))
            return attempts[-1]

        error: RelayError | None = None
        try:
            winner = await run_race(
                plan.attempts, start, hedges=plan.hedges, gate=plan, reaper=self._reaper
            )
        except RelayError as failed:
            error = failed
        else:
            if self.world.is_dead(received_s):
                is_late = self.now() - received_s > LATE_S
                self.world.late += is_late
                self.world.late_others += is_late and self.number > 0
            plan.committed()
            await asyncio.sleep(_STREAM_S)
            winner.finish()
            winner.record.is_winner = True
        records = tuple(attempt.record for attempt in attempts)
        plan.ended(
            GenerationEnd(
                error=error,
                finish_reasons={},
                raw_finish_reasons={},
                usage=None,
                is_usage_final=False,
                attempts=records,
                phases_us={},
                stall_count=0,
                longest_gap_us=0,
                provider="",
                model="",
                response_id="",
                has_output=error is None,
                hedge=plan.hedge,
            )
        )

    async def drained(self) -> None:
        """Until nothing runs."""
        while self._running:
            await asyncio.wait(self._running)
        await self._reaper.aclose(grace_s=60.0)
        await self.desk.aclose()


async def _run(world: World) -> World:
    peers: list[Worker] = []
    peers += [Worker(world, number, peers) for number in range(WORKERS)]
    upkeep = [asyncio.create_task(worker.upkeep()) for worker in peers]
    end_s = clock.START_S + WARM_S + DEAD_S + AFTER_S
    while True:
        await asyncio.sleep(world.rng.expovariate(world.rate))
        if peers[0].now() > end_s:
            break
        world.rng.choices(peers, world.shares)[0].arrive()
    for task in upkeep:
        task.cancel()
    await asyncio.gather(*upkeep, return_exceptions=True)
    for worker in peers:
        await worker.drained()
    return world


_EVEN: Final = (0.25,) * WORKERS
_ONE: Final = (0.85, 0.05, 0.05, 0.05)


def run(rig: Rig) -> CaseResult:
    """Every world, with hints and without."""
    seeds = range(5 if rig.options.is_quick else 20)
    result = CaseResult(axes={"workers": WORKERS, "dead_s": DEAD_S, "seeds": len(seeds)})
    for how in ("refuses", "silent"):
        for spread, shares in (("even", _EVEN), ("one", _ONE)):
            for rate in (2.0, 20.0):
                key = f"{how}/{spread}/{rate:g}_per_s"
                rig.say(f"breaker_hints: {key}")
                for has_hints in (False, True):
                    runs = [
                        clock.run(
                            _run(
                                World(
                                    rate,
                                    shares,
                                    how == "silent",
                                    has_hints,
                                    random.Random(f"{seed}/{key}"),
                                )
                            )
                        )
                        for seed in seeds
                    ]
                    result.rows[f"{key}/{_arm(has_hints)}"] = {
                        "hits": _mean([world.hits for world in runs]),
                        "first_hits": _mean([world.first_hits for world in runs]),
                        "late": _mean([world.late for world in runs]),
                        "late_others": _mean([world.late_others for world in runs]),
                    }
    for has_hints in (False, True):
        rig.say("breaker_hints: one worker's network")
        runs = [
            clock.run(
                _run(
                    World(
                        20.0,
                        _EVEN,
                        False,
                        has_hints,
                        random.Random(f"{seed}/own"),
                        dead_for=lambda worker: worker == 0,
                        flaky=FLAKY,
                    )
                )
            )
            for seed in seeds
        ]
        result.rows[f"one_network/even/20_per_s/{_arm(has_hints)}"] = {
            "elsewhere_s": _mean([sum(world.ejected_s[1:]) for world in runs]),
            "there_s": _mean([world.ejected_s[0] for world in runs]),
            "late": _mean([world.late for world in runs]),
        }
    return result


def _arm(has_hints: bool) -> str:
    return "hints" if has_hints else "none"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
