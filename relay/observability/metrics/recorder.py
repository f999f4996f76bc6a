"""Counts what generations did, once each at their end; nothing is done per token.

Numbers are raised in rows that are found by name; nothing is made that Prometheus knows before
somebody asks (`snapshot`). All of it in the loop's thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from relay.errors import RelayError
from relay.observability.metrics import families as of
from relay.observability.metrics.families import (
    DIRECT,
    NONE,
    OTHER,
    SHADOW,
    UNKNOWN,
    Family,
    key_of,
)
from relay.observability.metrics.histogram import Histogram
from relay.observability.metrics.names import Names
from relay.observability.metrics.policy_counts import PolicyCounts
from relay.observability.metrics.rows import AliasRow, Bounds, FrontendRow, PhaseRow, TargetRow
from relay.observability.metrics.snapshot import Rows, Series
from relay.outcome import (
    AttemptOutcome,
    AttemptRecord,
    Ended,
    GenerationEnd,
    HandedThrough,
    HedgeRecord,
    fate_of,
)

SPEAKABLE_TOKENS: Final = 8
"""As of `relay replay`: what a voice needs before it can begin."""
MAX_NAMES: Final = 1000
"""Aliases, and providers, with rows of their own, those of configurations before among them."""

_OUTCOMES: Final = {
    AttemptOutcome.SUCCESS: "success",
    AttemptOutcome.FAILURE: "failure",
    AttemptOutcome.OVERLOAD: "overload",
    AttemptOutcome.IGNORED: "cancelled",
}
_FRONTENDS: Final = 40
_TEXTS: Final = 64
"""Reasons and surfaces: the code's own words, so that this is never reached."""


class Recorder:
    """Of one worker.

    Args:
        bounds: of the histograms.
        max_targets, max_teams: with rows of their own.
        dead_air_s: see `families.DEAD_AIR`.
        is_booked: spend is told by the accounts (`settled`), not as estimated.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        max_targets: int,
        max_teams: int,
        dead_air_s: float,
        is_booked: bool,
    ) -> None:
        self._bounds = bounds
        self._max_targets = max_targets
        self._dead_air_s = dead_air_s
        self._is_booked = is_booked
        self._targets: dict[tuple[str, str], TargetRow] = {}
        self._aliases: dict[str, AliasRow] = {}
        self._frontends: dict[str, FrontendRow] = {}
        self._phases: dict[str, PhaseRow] = {}
        self._refusals: dict[tuple[str, str, str], int] = {}
        self._turned_away: dict[tuple[str, str], int] = {}
        self._handed: dict[tuple[str, str, str], int] = {}
        self._handed_times: dict[tuple[str, str], Histogram] = {}
        self._denied = {"key": 0, "certificate": 0}
        self._spend_micro: dict[str, float] = {}
        self._told: Series = {}
        """Rows of targets as they were last shown."""
        self._surfaces = Names(_TEXTS)
        self._teams = Names(max_teams)
        self._providers = Names(MAX_NAMES)
        self._policies = PolicyCounts()
        self._direct = AliasRow(bounds)
        self._unnamed = AliasRow(bounds)
        self._copies = AliasRow(bounds)

    def configured(self, aliases: Iterable[str], targets: Iterable[tuple[str, str]]) -> None:
        """These have rows of their own from now on, up to the bounds; rows of an earlier
        configuration stay.

        Args:
            targets: provider and its own name of the model.
        """
        for alias in aliases:
            if alias not in self._aliases and len(self._aliases) < MAX_NAMES:
                self._aliases[alias] = AliasRow(self._bounds)
        for provider, model in targets:
            if (provider, model) in self._targets:
                continue
            if len(self._targets) < self._max_targets:
                self._targets[provider, model] = TargetRow(self._bounds)
            self._phases_of(provider)

    def label_of(self, provider: str, model: str) -> tuple[str, str]:
        """What the row of a target is called."""
        if (provider, model) in self._targets:
            return provider, model
        return (provider if provider in self._phases else OTHER), OTHER

    def knows(self, provider: str, model: str) -> bool:
        """Whether a target has a row of its own."""
        return (provider, model) in self._targets and model != OTHER

    # --- told -------------------------------------------------------------------------------

    def ended(self, ended: Ended) -> None:
        """A generation is over; see `Services.on_ended`."""
        end, request, frontend = ended.end, ended.request, ended.frontend
        asked = request.asked_as or request.model
        alias = self._copies if ended.is_copy else self._aliases.get(asked)
        if alias is None:
            alias = self._direct if ended.was_planned else self._unnamed
        error = end.error
        if error is None:
            outcome = "ok"
        else:
            outcome = "cancelled" if fate_of(error) == "cancelled" else "error"
            name = (error.source.value, error.reason.name.lower())
            alias.errors[name] = alias.errors.get(name, 0) + 1
        way = (frontend, outcome)
        alias.generations[way] = alias.generations.get(way, 0) + 1
        phases = end.phases_us
        has_content = bool(end.provider)
        ttft_us = wall_us = 0
        of_phases = self._phases_of(end.provider or NONE).phases
        for phase, spent_us in phases.items():
            wall_us += spent_us
            if spent_us:
                of_phases[phase].observe(spent_us * 1e-6)
        row = self._frontends.get(frontend)
        if row is None:
            row = self._frontend(frontend)
        row.wall.observe(wall_us * 1e-6)
        if has_content:
            after_us = phases["relay_out"] + phases["stream"] + phases["stalls"] + phases["end"]
            ttft_us = wall_us - after_us
            alias.ttft.observe(ttft_us * 1e-6)
            row.added.observe(
                (
                    phases["admission"]
                    + phases["route"]
                    + phases["pool_wait"]
                    + phases["request_sent"]
                    + phases["relay_out"]
                )
                * 1e-6
            )
        gap_s = 0.0
        is_kept = end.decision is not None and end.decision.is_kept
        if has_content and end.attempts and not is_kept:  # which says nothing of who made it
            gap_s = self._winner(end, request.embedding is None)
        if end.decision is not None:
            self._policies.ended(end.decision, self._label(asked, ended))
        if end.attempts:
            for record in end.attempts:
                self._attempt(record)
            if (has_content or outcome != "cancelled") and _is_spoken(ended):
                alias.judged += 1
                if not has_content or self._speakable_s(ended, ttft_us * 1e-6, gap_s) > (
                    self._dead_air_s
                ):
                    alias.dead_air += 1
        if end.hedge is not None:
            _hedge(alias, end.hedge)
        if not self._is_booked and end.attempts:
            cost = sum(record.cost or 0.0 for record in end.attempts)
            self._spend_micro[""] = self._spend_micro.get("", 0.0) + cost

    def _label(self, model: str, ended: Ended) -> str:
        if ended.is_copy:
            return SHADOW
        if model in self._aliases:
            return model
        return DIRECT if ended.was_planned else UNKNOWN

    def _winner(self, end: GenerationEnd, is_text: bool) -> float:
        """What the answer was like; the mean time between its tokens, seconds."""
        target = self._target(end.provider, end.model)
        usage, gap_s = end.usage, 0.0
        if usage is not None:
            target.prompt += usage.prompt_tokens
            target.cached += usage.cached_tokens or 0
            target.completion += usage.completion_tokens
            # Of what came after the first: what was thought before it is in the first's time.
            tokens = usage.completion_tokens - (usage.reasoning_tokens or 0)
            if tokens > 1 and is_text:
                phases = end.phases_us
                gap_s = (phases["stream"] + phases["stalls"]) * 1e-6 / (tokens - 1)
                target.mean_gap.observe(gap_s)
        if is_text:
            target.longest_gap.observe(end.longest_gap_us * 1e-6)
        target.stalls += end.stall_count
        return gap_s

    @staticmethod
    def _speakable_s(ended: Ended, ttft_s: float, gap_s: float) -> float:
        """When there was enough to speak, as `relay.whatif.recorded.Recorded.speakable_s` has it:
        tokens come evenly; who waits for a segment gets it whole."""
        if ended.request.policy.commit_on == "first_segment":
            return ttft_s
        usage = ended.end.usage
        tokens = 1 if usage is None else min(SPEAKABLE_TOKENS, max(1, usage.completion_tokens))
        return ttft_s + (tokens - 1) * gap_s

    def _attempt(self, record: AttemptRecord) -> None:
        target = self._target(record.provider, record.model)
        outcome = "lost" if record.is_loser else _OUTCOMES[record.outcome]
        name = (record.role.value, outcome)
        target.attempts[name] = target.attempts.get(name, 0) + 1
        if record.error is not None:
            reason = record.error.reason.name.lower()
            target.errors[reason] = target.errors.get(reason, 0) + 1
        phases = record.phases_us
        # Of a loser that runs on for its first content the phases come later, and not to us.
        if "request_sent" in phases or not record.is_free:
            target.sent += 1
        if "first_content" in phases:
            target.ttft.observe(sum(phases.values()) * 1e-6)
        if record.cost is not None:
            target.cost_micro += record.cost
        elif not record.is_free:
            target.unpriced += 1

    def refused(self, error: RelayError, surface: str, stage: str) -> None:
        """The accounts refused something; `stage` is `generation` or `attempt`."""
        name = (self._surfaces.of(surface), stage, error.reason.name.lower())
        self._refusals[name] = self._refusals.get(name, 0) + 1

    def turned_away(self, error: RelayError, surface: str) -> None:
        """See `Services.on_turned_away`."""
        name = (self._surfaces.of(surface), error.reason.name.lower())
        self._turned_away[name] = self._turned_away.get(name, 0) + 1

    def handed_through(self, end: HandedThrough) -> None:
        """See `Services.on_handed_through`."""
        way = (self._providers.of(end.provider), end.surface)
        name = (*way, end.outcome)
        self._handed[name] = self._handed.get(name, 0) + 1
        times = self._handed_times.get(way)
        if times is None:
            times = self._handed_times[way] = Histogram(self._bounds.wall)
        times.observe(end.wall_us * 1e-6)

    def key_denied(self, *, is_by_certificate: bool) -> None:
        """Somebody called who is nobody."""
        self._denied["certificate" if is_by_certificate else "key"] += 1

    def settled(self, team: str, cost_micro: int) -> None:
        """The accounts booked a generation."""
        name = self._teams.of(team)
        self._spend_micro[name] = self._spend_micro.get(name, 0.0) + cost_micro

    # --- rows -------------------------------------------------------------------------------

    def _target(self, provider: str, model: str) -> TargetRow:
        row = self._targets.get((provider, model))
        if row is None:
            name = self.label_of(provider, model)
            row = self._targets.get(name)
            if row is None:
                row = self._targets[name] = TargetRow(self._bounds)
        row.is_told = False
        return row

    def _phases_of(self, provider: str) -> PhaseRow:
        row = self._phases.get(provider)
        if row is None:
            if len(self._phases) >= MAX_NAMES and provider != OTHER:
                return self._phases_of(OTHER)
            row = self._phases[provider] = PhaseRow(self._bounds)
        return row

    def _frontend(self, name: str) -> FrontendRow:
        if len(self._frontends) >= _FRONTENDS:
            name = OTHER
        return self._frontends.setdefault(name, FrontendRow(self._bounds))

    # --- shown ------------------------------------------------------------------------------

    def fill(self, series: Series) -> None:
        """Write all of it into a snapshot's series. There may be a thousand targets: rows of those
        that nothing happened to are the ones of before, and stay ours."""
        put = _Put(series)
        self._policies.fill(series)
        for alias, row in (
            *self._aliases.items(),
            (DIRECT, self._direct),
            (UNKNOWN, self._unnamed),
            (SHADOW, self._copies),
        ):
            _put_alias(put, alias, row)
        _put_targets(_Put(self._told), self._targets)
        series.update(self._told)
        for name, frontend in self._frontends.items():
            if sum(frontend.added.counts):
                put(of.ADDED, name, frontend.added.row())
            put(of.WALL, name, frontend.wall.row())
        for provider, phases in self._phases.items():
            for phase, histogram in phases.phases.items():
                if histogram.total:
                    put(of.PHASE, key_of(provider, phase), histogram.row())
        for (surface, stage, reason), count in self._refusals.items():
            put(of.REFUSALS, key_of(surface, stage, reason), count)
        for turned, count in self._turned_away.items():
            put(of.TURNED_AWAY, key_of(*turned), count)
        for handed, count in self._handed.items():
            put(of.HANDED_THROUGH, key_of(*handed), count)
        for way, times in self._handed_times.items():
            put(of.HANDED_THROUGH_TIME, key_of(*way), times.row())
        for shown, count in self._denied.items():
            put(of.KEYS_DENIED, shown, count)
        for team, micro in self._spend_micro.items():
            put(of.SPEND, key_of(team), micro / 1e6)


class _Put:
    """Writes a row."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def __call__(self, family: Family, key: str, value: float | list[float]) -> None:
        self.rows(family)[key] = value

    def rows(self, family: Family) -> Rows:
        return self._series.setdefault(family.name, {})


def _put_alias(put: _Put, alias: str, row: AliasRow) -> None:
    for (frontend, outcome), count in row.generations.items():
        put(of.GENERATIONS, key_of(alias, frontend, outcome), count)
    for (source, reason), count in row.errors.items():
        put(of.GENERATION_ERRORS, key_of(alias, source, reason), count)
    if not row.generations and alias in (UNKNOWN, SHADOW):
        return
    key = key_of(alias)
    put(of.TTFT, key, row.ttft.row())
    put(of.DEAD_AIR, key, row.dead_air)
    put(of.DEAD_AIR_JUDGED, key, row.judged)
    for reason, count in row.decisions.items():
        put(of.HEDGE_DECISIONS, key_of(alias, reason), count)
    put(of.HEDGES_SENT, key, row.sent)
    put(of.HEDGES_WON, key, row.won)
    for reason, count in row.denied.items():
        put(of.HEDGES_DENIED, key_of(alias, reason), count)
    put(of.HEDGES_SHADOWED, key, row.shadowed)
    put(of.HEDGES_SHADOW_WON, key, row.shadow_won)
    put(of.HEDGE_COST, key_of(alias, "likely"), row.hedge_cost_micro / 1e6)
    put(of.HEDGE_COST, key_of(alias, "upper"), row.hedge_cost_upper_micro / 1e6)
    put(of.HEDGE_SHADOW_COST, key_of(alias, "likely"), row.shadow_cost_micro / 1e6)
    put(of.HEDGE_SHADOW_COST, key_of(alias, "upper"), row.shadow_cost_upper_micro / 1e6)


def _put_targets(put: _Put, targets: Mapping[tuple[str, str], TargetRow]) -> None:
    """Of those that were never asked, that alone."""
    sent, attempts, errors = map(put.rows, (of.ATTEMPTS_SENT, of.ATTEMPTS, of.ATTEMPT_ERRORS))
    ttft, mean, longest = map(put.rows, (of.ATTEMPT_TTFT, of.MEAN_GAP, of.LONGEST_GAP))
    stalls, tokens, cost = map(put.rows, (of.STALLS, of.TOKENS, of.ATTEMPT_COST))
    unpriced = put.rows(of.UNPRICED)
    for name, row in targets.items():
        if row.is_told:
            continue
        row.is_told = True
        key = key_of(*name)
        sent[key] = row.sent
        if not row.attempts:
            continue
        for (role, outcome), count in row.attempts.items():
            attempts[f"{key}\x1f{role}\x1f{outcome}"] = count
        for reason, count in row.errors.items():
            errors[f"{key}\x1f{reason}"] = count
        ttft[key] = row.ttft.row()
        mean[key] = row.mean_gap.row()
        longest[key] = row.longest_gap.row()
        stalls[key] = row.stalls
        tokens[f"{key}\x1fprompt"] = row.prompt
        tokens[f"{key}\x1fcached"] = row.cached
        tokens[f"{key}\x1fcompletion"] = row.completion
        cost[key] = row.cost_micro / 1e6
        unpriced[key] = row.unpriced


_UNHEARD: Final = frozenset({"prewarm", "shadow"})
"""Generations of the relay's own, whose answers nobody gets."""


def _is_spoken(ended: Ended) -> bool:
    """Whether somebody may be waiting to hear it."""
    return ended.request.embedding is None and ended.frontend not in _UNHEARD


def _hedge(alias: AliasRow, hedge: HedgeRecord) -> None:
    alias.decisions[hedge.reason] = alias.decisions.get(hedge.reason, 0) + 1
    if hedge.refused:
        alias.denied[hedge.refused] = alias.denied.get(hedge.refused, 0) + 1
    if hedge.fired:
        alias.sent += hedge.fired
        alias.won += hedge.won
        alias.hedge_cost_micro += hedge.added_cost or 0.0
        alias.hedge_cost_upper_micro += hedge.added_cost_upper or 0.0
    if hedge.would_fire:
        alias.shadowed += 1
        alias.shadow_won += hedge.would_win or 0.0
        alias.shadow_cost_micro += hedge.would_cost or 0.0
        alias.shadow_cost_upper_micro += hedge.would_cost_upper or 0.0
