"""Portkey's gateway: a config object, as it comes in `x-portkey-config` or stands in a file.

Such a config says what becomes of one request, so it is one alias here; a conditional one is an
alias for each of its named targets.

Source: the gateway's schema of configs and Portkey's documentation of them (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from relay.importing.draft import Alias, Draft, Target, name_of, without_doubles
from relay.importing.portkey_targets import DIFFERS, LEFT, Around, target_of
from relay.importing.reading import ImportFault, Section
from relay.importing.report import Report
from relay.importing.variables import Variables, names_in

_MAX_DEPTH: Final = 20
_ITS_KEYS: Final = ("strategy", "targets", "provider", "virtual_key", "override_params")
"""A config says by one of them whom to ask, the last by its model (`@SLUG/MODEL`)."""
_MODES: Final = ("single", "fallback", "loadbalance", "conditional")
_ALIASES: Final = {"load_balance": "loadbalance", "load-balance": "loadbalance"}


@dataclass
class Flat:
    """A tree of targets as candidates, and who is asked when they have failed."""

    candidates: list[Target] = field(default_factory=list)
    fallbacks: list[Target] = field(default_factory=list)
    is_balanced: bool = False
    timeout_ms: int | None = None
    """The longest of its targets."""


def from_portkey(
    document: Mapping[str, Any], environment: Mapping[str, str], name: str
) -> tuple[Draft, Report]:
    """What their file says, in our words.

    Args:
        environment: as of `from_litellm`.
        name: of the alias.

    Raises:
        ImportFault: it is none of theirs.
    """
    draft, report = Draft(), Report()
    around = Around(draft, report, Variables(report, environment, names_in(document)))
    file = Section(document, "", report, takes_camel_case=True)
    if not any(key in file for key in _ITS_KEYS):
        missing = ", ".join(_ITS_KEYS[:-1])
        raise ImportFault(
            f"no Portkey configuration (none of {missing} and {_ITS_KEYS[-1]} is there)"
        )
    _Reader(around, name_of(name, (), "fast")).read(file)
    if not draft.aliases:
        report.leave("targets", "nothing of it is served here")
    draft.note(
        "",
        "Made by `relay import portkey` from a gateway config. Clients ask for the alias as their"
        "\n`model`, and leave x-portkey-* headers out.",
    )
    return draft, report


class _Reader:
    def __init__(self, around: Around, name: str) -> None:
        self._around = around
        self._report = around.report
        self._name = name

    def read(self, file: Section) -> None:
        """Makes the aliases."""
        flat = self._flat(file, "", None, self._name, 0)
        self._alias(self._name, flat)

    def _alias(self, name: str, flat: Flat) -> str:
        """The name that it has got; empty where there is nobody to ask."""
        candidates = without_doubles(flat.candidates)
        fallbacks = without_doubles(flat.fallbacks, candidates)
        if not candidates:
            candidates, fallbacks = fallbacks[:1], fallbacks[1:]
        if not candidates:
            return ""
        aliases = self._around.draft.aliases
        alias = Alias(name_of(name, aliases, "model"), candidates, fallbacks)
        if flat.is_balanced and len(candidates) > 1:
            alias.choose = {"mode": "balanced"}
        if flat.timeout_ms is not None:
            alias.timeouts = {"total_ms": flat.timeout_ms}
        aliases[alias.name] = alias
        return alias.name

    def _flat(
        self, node: Section, model: str, timeout_ms: int | None, name: str, depth: int
    ) -> Flat:
        """Reads a node to its end.

        Args:
            model, timeout_ms: of what is around it.
            name: of the alias that it becomes a part of.
        """
        own_ms = node.ms("request_timeout", per_unit_ms=1)
        timeout_ms = timeout_ms if own_ms is None else own_ms
        if "targets" not in node:
            strategy = node.section("strategy")
            strategy.take("mode")
            strategy.finish()
            node.take("weight")
            target = target_of(node, model, timeout_ms, self._around)
            return Flat([target], timeout_ms=timeout_ms) if target is not None else Flat()
        if depth >= _MAX_DEPTH:
            self._report.leave(node.path, "nested too deeply")
            return Flat()
        strategy = node.section("strategy")
        mode = strategy.text("mode").lower() or "single"
        mode = _ALIASES.get(mode, mode)
        inner = node.sections("targets")
        if mode not in _MODES:
            self._report.leave(
                strategy.path_of("mode"), "the mode is not known: the targets are asked in order"
            )
            mode = "fallback"
        overrides = node.section("override_params")
        model = overrides.text("model") or model
        overrides.finish(
            dict.fromkeys(overrides.names(), "the relay adds no parameters: let clients send it")
        )
        strategy.differ(
            "on_status_codes",
            "which errors are asked elsewhere is decided by their class (docs/operations.md)",
        )
        if mode == "conditional":
            flat = self._conditional(strategy, inner, model, timeout_ms, name, depth)
        else:
            if mode == "single" and len(inner) > 1:
                self._report.differ(
                    node.path_of("targets"), "the first is asked, as `single` has it"
                )
                inner = inner[:1]
            weights = [self._weight(one, mode) for one in inner]
            inner = [one for one, weight in zip(inner, weights, strict=True) if weight != 0]
            parts = [self._flat(one, model, timeout_ms, name, depth + 1) for one in inner]
            flat = _balanced(parts) if mode == "loadbalance" else _in_order(parts)
        node.take("weight")
        strategy.finish()
        node.finish(LEFT, DIFFERS)
        return flat

    def _weight(self, node: Section, mode: str) -> float | None:
        """None where there is none."""
        path, weight = node.path_of("weight"), node.take("weight")
        if weight is None or mode != "loadbalance":
            return None
        if weight == 0:
            self._report.leave(path, "weight 0: the target is not in the new file")
            return 0
        self._report.differ(
            path, "traffic is not split by weights: `balanced` asks whoever is quickest at present"
        )
        return 1

    def _conditional(
        self,
        strategy: Section,
        inner: list[Section],
        model: str,
        timeout_ms: int | None,
        name: str,
        depth: int,
    ) -> Flat:
        """An alias for each named target; the default's is returned, for the alias itself."""
        default = strategy.text("default")
        path = strategy.path_of("conditions")
        conditions = strategy.items("conditions")
        made: dict[str, str] = {}
        flats: dict[str, Flat] = {}
        for one in inner:
            called = one.text("name")
            flat = self._flat(one, model, timeout_ms, f"{name}-{called}", depth + 1)
            flats[called] = flat
            if called and called != default:
                made[called] = self._alias(f"{name}-{called}", flat)
        for index, condition in enumerate(conditions):
            then = condition.get("then") if isinstance(condition, dict) else None
            alias = name if then == default else made.get(str(then), "")
            told = (
                f"let these clients ask for {alias!r} (as `model`, or `x-relay-route`)"
                if alias
                else ("it leads to nothing that is served here")
            )
            self._report.leave(f"{path}[{index}]", f"no request is looked at for it: {told}")
        if default not in flats:
            self._report.leave(
                strategy.path_of("default"),
                f"no target is called so: the first stands for it, as {name!r}",
            )
            return next(iter(flats.values()), Flat())
        return flats[default]


def _longest(parts: list[Flat]) -> int | None:
    return max((part.timeout_ms for part in parts if part.timeout_ms is not None), default=None)


def _in_order(parts: list[Flat]) -> Flat:
    """The first, and behind it all that others have."""
    parts = [part for part in parts if part.candidates or part.fallbacks]
    if not parts:
        return Flat()
    first, *others = parts
    more = [target for part in others for target in (*part.candidates, *part.fallbacks)]
    return Flat(first.candidates, [*first.fallbacks, *more], first.is_balanced, _longest(parts))


def _balanced(parts: list[Flat]) -> Flat:
    """All at once, and behind them what each has behind itself."""
    return Flat(
        [target for part in parts for target in part.candidates],
        [target for part in parts for target in part.fallbacks],
        is_balanced=True,
        timeout_ms=_longest(parts),
    )
