"""Sums of slices: per target, per alias and pair, and in all. Slices are put in and taken out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from relay.observability.live.policy_rows import POLICY_FIELDS, PolicyName
from relay.observability.live.quantiles import Counts, quantile
from relay.observability.live.slices import ALIAS_FIELDS, PAIR_FIELDS

SHARES: Final = (0.5, 0.95, 0.99)
_WORDS: Final = ("fates", "reasons", "budgets", "refused")
_NUMBERS: Final = ("fired", "hedge_won", "cost", "added_cost")
_WHOLE: Final = tuple(name for name in PAIR_FIELDS if name != "cost")
"""Fields of a pair that are whole numbers, so that taking out leaves exactly nothing."""

Pair = tuple[str, str, Counts, Counts, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Slice:
    """One worker's, as it came over JSON, in a form that is quick to add."""

    index: int
    pairs: tuple[Pair, ...]
    aliases: Mapping[str, dict[str, Any]]
    policies: tuple[tuple[PolicyName, dict[str, Any]], ...] = ()

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """
        Args:
            told: as `relay.observability.live.slices.Slice.to_dict` makes it; keys may be texts.
        """
        pairs = tuple(
            (
                row[0],
                row[1],
                _numbered(row[2]),
                _numbered(row[3]),
                dict(zip(PAIR_FIELDS, row[4:], strict=True)),
            )
            for row in told["pairs"]
        )
        aliases: dict[str, dict[str, Any]] = {}
        for name, row in told["aliases"].items():
            aliases[name] = fields = dict(zip(ALIAS_FIELDS, row, strict=True))
            fields["ttft"] = _numbered(fields["ttft"])
        policies: list[tuple[PolicyName, dict[str, Any]]] = []
        for kind, name, outcome, *row in told.get("policies", ()):
            fields = dict(zip(POLICY_FIELDS, row, strict=True))
            fields["ttft"] = _numbered(fields["ttft"])
            policies.append(((kind, name, outcome), fields))
        return cls(told["index"], pairs, aliases, tuple(policies))


class Sums:
    """Of some slices."""

    def __init__(self) -> None:
        self.latency: dict[str, tuple[Counts, Counts]] = {}
        self.targets: dict[str, dict[str, float]] = {}
        self.pairs: dict[str, dict[str, dict[str, float]]] = {}
        """By alias, then by target."""
        self.aliases: dict[str, dict[str, Any]] = {}
        self.ttft: dict[str, Counts] = {}
        self.policies: dict[PolicyName, dict[str, Any]] = {}

    def add(self, one: Slice, sign: int = 1) -> None:
        """Put a slice in, or take it out again (-1); what is left of nothing is gone."""
        for alias, target, finished, censored, fields in one.pairs:
            held = self.latency.setdefault(target, ({}, {}))
            _count(held[0], finished, sign)
            _count(held[1], censored, sign)
            of_target = self.targets.setdefault(target, dict.fromkeys(PAIR_FIELDS, 0))
            of_alias = self.pairs.setdefault(alias, {})
            of_pair = of_alias.setdefault(target, dict.fromkeys(PAIR_FIELDS, 0))
            for name, value in fields.items():
                of_target[name] += sign * value
                of_pair[name] += sign * value
            if sign < 0:
                if not any(of_pair[name] for name in _WHOLE):
                    del of_alias[target]
                if not any(of_target[name] for name in _WHOLE):
                    del self.targets[target]
                    del self.latency[target]
        for name, row in one.aliases.items():
            _count(self.ttft.setdefault(name, {}), row["ttft"], sign)
            sums = self.aliases.setdefault(name, no_alias())
            for word in _WORDS:
                _count(sums[word], row[word], sign)
            for number in _NUMBERS:
                sums[number] += sign * row[number]
            if not sums["fates"]:
                del self.aliases[name]
                del self.ttft[name]
                self.pairs.pop(name, None)
        for policy, row in one.policies:
            self._add_policy(policy, row, sign)

    def _add_policy(self, policy: PolicyName, row: Mapping[str, Any], sign: int = 1) -> None:
        sums = self.policies.setdefault(policy, no_policy())
        for field in POLICY_FIELDS[:-1]:
            sums[field] += sign * row[field]
        _count(sums["ttft"], row["ttft"], sign)
        if not sums["n"]:
            del self.policies[policy]

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        made = Sums()
        for one in (self, other):
            for target, (finished, censored) in one.latency.items():
                held = made.latency.setdefault(target, ({}, {}))
                _count(held[0], finished)
                _count(held[1], censored)
            _add_rows(made.targets, one.targets)
            for alias, rows in one.pairs.items():
                _add_rows(made.pairs.setdefault(alias, {}), rows)
            for name, row in one.aliases.items():
                _count(made.ttft.setdefault(name, {}), one.ttft[name])
                sums = made.aliases.setdefault(name, no_alias())
                for word in _WORDS:
                    _count(sums[word], row[word])
                for number in _NUMBERS:
                    sums[number] += row[number]
            for policy, counted in one.policies.items():
                made._add_policy(policy, counted)
        return made

    # --- reading ----------------------------------------------------------------------------

    def target(self, name: str) -> dict[str, Any]:
        """Of a target: counts, and first tokens as `latency_of`."""
        finished, censored = self.latency.get(name, ({}, {}))
        fields = self.targets.get(name) or dict.fromkeys(PAIR_FIELDS, 0)
        return {**_told(fields), "ttft": latency_of(finished, censored)}

    def alias(self, name: str) -> dict[str, Any]:
        """Of an alias: fates and money, first tokens as clients had them, and its race: by target
        what started and what came of it."""
        sums = self.aliases.get(name) or no_alias()
        return {
            **sums,
            "generations": sum(sums["fates"].values()),
            "cost": round(sums["cost"]),
            "added_cost": round(sums["added_cost"]),
            "ttft": latency_of(self.ttft.get(name, {}), {}),
            "race": {target: _told(row) for target, row in self.pairs.get(name, {}).items()},
        }

    def policy_rows(self) -> list[dict[str, Any]]:
        """What policies did, by kind, name and outcome."""
        return [
            {
                "kind": kind,
                "name": name,
                "outcome": outcome,
                **{field: round(row[field]) for field in POLICY_FIELDS[:-1]},
                "ttft": latency_of(row["ttft"], {}),
            }
            for (kind, name, outcome), row in sorted(self.policies.items())
        ]

    def total(self) -> dict[str, Any]:
        """Of all aliases together."""
        every: Counts = {}
        for counts in self.ttft.values():
            _count(every, counts)
        sums = no_alias()
        for row in self.aliases.values():
            _count(sums["fates"], row["fates"])
            for number in _NUMBERS:
                sums[number] += row[number]
        return {
            "generations": sum(sums["fates"].values()),
            "fates": sums["fates"],
            "fired": sums["fired"],
            "hedge_won": sums["hedge_won"],
            "cost": round(sums["cost"]),
            "added_cost": round(sums["added_cost"]),
            "ttft": latency_of(every, {}),
        }


def latency_of(finished: Counts, censored: Counts) -> dict[str, Any]:
    """`n`, `given_up` of them, and p50, p95, p99 in milliseconds; `floor` names those of which it
    is only known that they are more."""
    given_up = sum(censored.values())
    told: dict[str, Any] = {"n": sum(finished.values()) + given_up, "given_up": given_up}
    floor: list[str] = []
    for share in SHARES:
        found = quantile(finished, censored, share)
        name = f"p{round(share * 100)}"
        told[name] = None if found is None else round(found.us / 1000, 1)
        if found is not None and found.is_floor:
            floor.append(name)
    return {**told, "floor": floor}


def quantile_ms(finished: Counts, censored: Counts, share: float) -> float | None:
    """For a chart."""
    found = quantile(finished, censored, share)
    return None if found is None else round(found.us / 1000, 1)


def no_alias() -> dict[str, Any]:
    """Of one that nobody asked for."""
    return {**{word: {} for word in _WORDS}, **dict.fromkeys(_NUMBERS, 0)}


def no_policy() -> dict[str, Any]:
    """Of one that decided nothing."""
    return {**dict.fromkeys(POLICY_FIELDS[:-1], 0), "ttft": {}}


def _told(fields: Mapping[str, float]) -> dict[str, Any]:
    lost = fields["lost"]
    return {
        **{name: round(value) for name, value in fields.items() if name != "lost_us"},
        "lost_at_ms": round(fields["lost_us"] / lost / 1000, 1) if lost else None,
    }


def _count(counts: dict[Any, int], more: Mapping[Any, int], sign: int = 1) -> None:
    for key, count in more.items():
        left = counts.get(key, 0) + sign * count
        if left:
            counts[key] = left
        else:
            counts.pop(key, None)


def _add_rows(into: dict[str, dict[str, float]], rows: Mapping[str, Mapping[str, float]]) -> None:
    for name, row in rows.items():
        held = into.get(name)
        if held is None:
            into[name] = dict(row)
        else:
            for field, value in row.items():
                held[field] += value


def _numbered(counts: Mapping[Any, int]) -> Counts:
    """Keys that went through JSON are texts."""
    return {int(bucket): count for bucket, count in counts.items()}
