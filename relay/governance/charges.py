"""What each thing that is asked for is charged to: which buckets, and how much of each.

    scope           bucket                      counted
    key             key:ID:rpm                  requests a minute
    team            team:ID:input_tpm           tokens a minute of prompts, estimated from bytes
    organisation    organisation:ID:output_tpm  tokens a minute of answers, as long as is expected
    model           model:NAME:generations      at once
    provider        provider:NAME:sessions      at once

`model` is the name as it was asked for, of all callers together; `provider` a row of the
configuration, which is a key there, with all its models. What tokens were really used is known at
the end and corrected then. A prompt that is larger than a whole minute's limit is never admitted;
an answer that may become so is charged a whole minute's, and the rest when it is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from relay.errors import LimitReached, RelayError, TargetLimited
from relay.governance.ledger import RateState
from relay.governance.limits import NO_LIMITS, KeyLimits, Limits
from relay.store.limit_store import LEASE, RATE, Charge, LimitSpent, LimitStore, Taken
from relay.store.token_bucket import MILLI, US_A_MILLI

_MAX_PLANS: Final = 4096
"""Of callers and models: then all are made anew, which costs some microseconds each."""

_WORDS: Final = {
    "rpm": "requests per minute",
    "input_tpm": "input tokens per minute",
    "output_tpm": "output tokens per minute",
    "generations": "generations at once",
    "sessions": "sessions at once",
}

_new_charge: Final = tuple.__new__
"""A NamedTuple's own costs twice as much; there are up to eight a generation."""


class Payer(NamedTuple):
    """Who asks. What is empty is not charged."""

    key_id: str
    team_id: str = ""
    organisation_id: str = ""
    limits: KeyLimits = NO_LIMITS
    """By the rows of the three; the configuration's defaults are added here."""


class Charges(NamedTuple):
    """Of one thing that was asked for."""

    all: Sequence[Charge]
    """Empty where nothing is limited. Those of input tokens are from `inputs_from` on, those of
    output tokens from `outputs_from` on."""
    inputs_from: int
    outputs_from: int


class _Plan(NamedTuple):
    """What is the same of every generation of a caller and a model."""

    limits: KeyLimits
    fixed: tuple[Charge, ...]
    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[tuple[str, int], ...]


class ChargeBook:
    """The charges by one configuration; a reload makes a new one.

    Args:
        defaults: for keys, teams and organisations that have none of their own, name by name.
        models: by the name that callers ask for.
        providers: by row.
    """

    def __init__(
        self,
        defaults: KeyLimits = NO_LIMITS,
        models: Mapping[str, Limits] | None = None,
        providers: Mapping[str, Limits] | None = None,
    ) -> None:
        self._defaults = defaults
        self._models = dict(models or {})
        self._plans: dict[tuple[str, str, str, str], _Plan] = {}
        self._providers = {
            name: _plan(NO_LIMITS, [("provider", name, limits)])
            for name, limits in (providers or {}).items()
        }

    def of_generation(
        self, payer: Payer, model: str, prompt_tokens: int, output_tokens: int
    ) -> Charges:
        """What a generation is charged at its admission.

        Args:
            model: as it was asked for.
            prompt_tokens: estimated.
            output_tokens: expected; 0 for what has no answer in tokens (embeddings).
        """
        if model not in self._models:
            model = ""
        name = (payer.key_id, payer.team_id, payer.organisation_id, model)
        plan = self._plans.get(name)
        if plan is None or (plan.limits is not payer.limits and plan.limits != payer.limits):
            if len(self._plans) >= _MAX_PLANS:
                self._plans.clear()
            scopes = [*self._scopes(payer)]
            if model:
                scopes.append(("model", model, self._models[model]))
            self._plans[name] = plan = _plan(payer.limits, scopes)
        return _charges(plan, prompt_tokens, output_tokens)

    def of_request(self, payer: Payer, model: str) -> Charges:
        """What a request is charged that is no generation: itself, of each limit of requests."""
        fixed = self.of_generation(payer, model, 0, 0).all
        rates = tuple(charge for charge in fixed if charge.kind == RATE)
        return Charges(rates, len(rates), len(rates))

    def of_attempt(self, provider: str, prompt_tokens: int, output_tokens: int) -> Charges | None:
        """What an attempt is charged when it starts; None where the row has no limits."""
        plan = self._providers.get(provider)
        return None if plan is None else _charges(plan, prompt_tokens, output_tokens)

    def of_session(self, payer: Payer) -> Sequence[Charge]:
        """What a session holds from its begin to its end."""
        return [
            Charge(f"{scope}:{name}:sessions", limits.sessions, 1, LEASE)
            for scope, name, limits in self._scopes(payer)
            if limits.sessions is not None
        ]

    def _scopes(self, payer: Payer) -> Iterator[tuple[str, str, Limits]]:
        given, defaults = payer.limits, self._defaults
        if payer.key_id:
            yield "key", payer.key_id, given.key.or_else(defaults.key)
        if payer.team_id:
            yield "team", payer.team_id, given.team.or_else(defaults.team)
        if payer.organisation_id:
            limits = given.organisation.or_else(defaults.organisation)
            yield "organisation", payer.organisation_id, limits


def _plan(given: KeyLimits, scopes: Sequence[tuple[str, str, Limits]]) -> _Plan:
    fixed: list[Charge] = []
    inputs: list[tuple[str, int]] = []
    outputs: list[tuple[str, int]] = []
    for scope, name, limits in scopes:
        if limits.generations is not None:
            bucket = f"{scope}:{name}:generations"
            fixed.append(Charge(bucket, limits.generations, 1, LEASE))
        if limits.rpm is not None:
            fixed.append(Charge(f"{scope}:{name}:rpm", limits.rpm, 1, RATE))
        if limits.input_tpm is not None:
            inputs.append((f"{scope}:{name}:input_tpm", limits.input_tpm))
        if limits.output_tpm is not None:
            outputs.append((f"{scope}:{name}:output_tpm", limits.output_tpm))
    return _Plan(given, tuple(fixed), tuple(inputs), tuple(outputs))


def _charges(plan: _Plan, prompt_tokens: int, output_tokens: int) -> Charges:
    fixed = plan.fixed
    inputs_from = outputs_from = len(fixed)
    if not (plan.inputs or plan.outputs):
        return Charges(fixed, inputs_from, outputs_from)
    charges = [*fixed]
    if prompt_tokens:
        for bucket, limit in plan.inputs:
            charges.append(_new_charge(Charge, (bucket, limit, prompt_tokens, RATE)))
        outputs_from = len(charges)
    if output_tokens:
        for bucket, limit in plan.outputs:
            amount = output_tokens if output_tokens < limit else limit
            charges.append(_new_charge(Charge, (bucket, limit, amount, RATE)))
    return Charges(charges, inputs_from, outputs_from)


class Grant:
    """What was taken for one generation, attempt or session. Whoever has it owes it one `settle`
    or `undo`; later calls do nothing."""

    __slots__ = ("_charges", "_is_over", "_store", "taken")

    def __init__(self, store: LimitStore, charges: Charges, taken: Taken) -> None:
        self._store = store
        self._charges = charges
        self._is_over = False
        self.taken = taken
        """As the buckets stood then."""

    def settle(self, prompt_tokens: int | None, output_tokens: int | None, now_us: int) -> None:
        """It is over: correct what was estimated, give back what was held.

        Args:
            prompt_tokens, output_tokens: used in truth; None leaves them as they were charged.
        """
        self._end(prompt_tokens, output_tokens, 0, now_us)

    def undo(self, now_us: int) -> None:
        """Nothing came of it: everything is given back, the request too."""
        self._end(0, 0, -1, now_us)

    def _end(
        self, prompt_tokens: int | None, output_tokens: int | None, requests: int, now_us: int
    ) -> None:
        if self._is_over:
            return
        self._is_over = True
        store = self._store
        charges, inputs_from, outputs_from = self._charges
        for index, (bucket, limit, amount, kind) in enumerate(charges):
            if kind == LEASE:
                store.give_back(bucket, amount)
                continue
            if index < inputs_from:
                by = requests
            else:
                used = prompt_tokens if index < outputs_from else output_tokens
                by = 0 if used is None else used - amount
            if by:
                store.correct(bucket, limit, by, now_us)


def rate_state(taken: Taken) -> RateState | None:
    """Where a caller stands, by the scope that is nearest to its limit: once of requests, once of
    tokens (input or output). None where neither is limited."""
    nearest: list[tuple[float, int, int] | None] = [None, None]
    for (bucket, limit, _, kind), level in zip(taken.charges, taken.levels, strict=True):
        if kind == LEASE:
            continue
        index = 0 if bucket.endswith(":rpm") else 1
        share = level / limit
        best = nearest[index]
        if best is None or share < best[0]:
            nearest[index] = (share, limit, level)
    requests, tokens = nearest
    if requests is None and tokens is None:
        return None
    return RateState(*_standing(requests), *_standing(tokens))


def _standing(nearest: tuple[float, int, int] | None) -> tuple[int | None, int, float]:
    """Limit, what is left in whole ones, and the seconds until it is full."""
    if nearest is None:
        return None, 0, 0.0
    _, limit, level = nearest
    return limit, max(0, level // MILLI), (limit * MILLI - level) * US_A_MILLI / limit / 1e6


def limit_reached(error: LimitSpent) -> LimitReached:
    """The refusal as the caller is told it."""
    return LimitReached(
        _words(error.charge, error.retry_after_s),
        retry_after_s=error.retry_after_s,
        metadata=_facts(error.charge),
        rate_state=rate_state(error.standing),
    )


def target_limited(error: LimitSpent) -> RelayError:
    """The refusal of a provider's row: another target may be asked."""
    return TargetLimited(
        _words(error.charge, error.retry_after_s),
        retry_after_s=error.retry_after_s,
        metadata=_facts(error.charge),
    )


def _words(charge: Charge, retry_after_s: float | None) -> str:
    scope, name, counted = _parts(charge.bucket)
    what = f"{_WORDS.get(counted, counted)} of {scope} {name}"
    if retry_after_s is None:
        return f"{what}: the request needs {charge.amount}, and the limit is {charge.limit}"
    end = "reached" if charge.kind == LEASE else "used up"
    again_s = math.ceil(retry_after_s)
    return f"{what}: the limit of {charge.limit} is {end}; come again in {again_s} s"


def _facts(charge: Charge) -> dict[str, str]:
    scope, name, counted = _parts(charge.bucket)
    return {"limit": counted, "limit_scope": scope, "limit_of": name}


def _parts(bucket: str) -> tuple[str, str, str]:
    """Scope, name and what is counted; a name may hold colons."""
    scope, _, rest = bucket.partition(":")
    name, _, counted = rest.rpartition(":")
    return scope, name, counted
