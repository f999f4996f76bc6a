"""Cascades, panels, experiments, shadows and caches, for `relay check`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.markup import escape
from rich.table import Table

from relay.commands.table import table
from relay.config import Config
from relay.config.cache import CacheConfig, ExactCacheConfig
from relay.config.cascades import CascadeConfig
from relay.config.experiments import ExperimentConfig, ShadowConfig
from relay.config.panels import PanelConfig
from relay.config.semantic_cache import SemanticCacheConfig


class _Row(NamedTuple):
    kind: str
    name: str
    lines: list[str]


def policies_table(config: Config) -> Table | None:
    """One row each; None where there are none."""
    found = list(_rows(config))
    if not found:
        return None
    rows = table("policies and caches", "", "name", "what it does")
    for kind, name, lines in found:
        rows.add_row(kind, escape(name), escape("\n".join(lines)))
    return rows


def _rows(config: Config) -> Iterator[_Row]:
    policies = config.policies
    for name, cascade in policies.cascades.items():
        yield _Row("cascade", name, _cascade(cascade))
    for name, panel in policies.panels.items():
        yield _Row("panel", name, _panel(panel))
    for name, experiment in policies.experiments.items():
        yield _Row("experiment", name, _experiment(experiment))
    for name, shadow in policies.shadows.items():
        yield _Row("shadow", name, _shadow(shadow))
    yield from _caches(config.cache or CacheConfig())


def _caches(section: CacheConfig) -> Iterator[_Row]:
    if section.exact is not None:
        yield _Row("cache", "exact", _exact(section.exact))
    if section.semantic is not None:
        yield _Row("cache", "semantic", _semantic(section.semantic))


def _cascade(row: CascadeConfig) -> list[str]:
    escalate = row.escalate
    signs = [
        word
        for word, is_on in (
            ("a rule", bool(escalate.rules)),
            (f"a classifier ({_of(escalate.classifier)})", escalate.classifier is not None),
            ("log probabilities", escalate.logprobs is not None),
            ("a refusal", escalate.refusal),
            ("no answer", escalate.empty),
            ("its length", escalate.length),
            ("a broken schema", escalate.schema_),
            ("broken arguments of a tool", escalate.tool_arguments),
            (f"a second look ({_of(escalate.self_check)})", escalate.self_check is not None),
        )
        if is_on
    ]
    lines = [f"{row.small}, then {row.large}", f"for {', '.join(signs)}, or a failure"]
    if (start := row.speculate) is not None:
        lines.append(
            f"{row.large} may start early: {_percent(start.max_share)} of requests, "
            f"{_percent(start.max_extra_cost)} more money"
        )
    return lines


def _of(asked: object) -> str:
    return getattr(asked, "model", None) or "the same model"


def _panel(row: PanelConfig) -> list[str]:
    members = [
        member.model if member.times == 1 else f"{member.times} x {member.model}"
        for member in row.models
    ]
    decide = row.decide
    if decide.majority is not None:
        how = "what most agree on"
    elif decide.judge is not None:
        how = f"what {decide.judge.model} prefers"
    else:
        how = "the highest score"
    return [", ".join(members), how if row.early_stop else f"{how}, of all"]


def _experiment(row: ExperimentConfig) -> list[str]:
    whole = sum(arm.weight for arm in row.arms)
    lines = [f"requests for {row.model}, by {row.sticky}"]
    lines += [
        f"{_percent(row.share * arm.weight / whole)} {arm.name}: {arm.use}" for arm in row.arms
    ]
    if not row.enabled:
        lines.append("not enabled")
    if row.guard_rails is None:
        lines.append("no guard rails")
    return lines


def _shadow(row: ShadowConfig) -> list[str]:
    lines = [f"{_percent(row.share)} of what {row.model} answered, to {row.use}"]
    if row.max_cost_micro_per_day:
        lines.append(f"at most ${row.max_cost_micro_per_day / 1e6:g} a day and worker")
    if not row.enabled:
        lines.append("not enabled")
    return lines


def _exact(row: ExactCacheConfig) -> list[str]:
    names = ", ".join(row.models) or "all names"
    spared = f" but {', '.join(row.not_models)}" if row.not_models else ""
    return [f"{names}{spared}: {row.ttl_s} s, shared by {row.share}"]


def _semantic(row: SemanticCacheConfig) -> list[str]:
    by = row.model if row.embeddings == "provider" else row.embeddings
    lines = [f"vectors by {by}, shared by {row.share}"]
    for name, route in row.routes.items():
        threshold = route.threshold or row.threshold
        near = "the usual nearness" if threshold is None else f"from {threshold:g} on"
        lines.append(f"{name}: {near}, {route.guard or row.guard}, {route.ttl_s or row.ttl_s} s")
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
