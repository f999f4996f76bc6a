"""What a configuration says that is accepted and will not do what was meant: `relay check` shows
it, and the log at a start."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from urllib.parse import urlsplit

from relay.config import (
    TIMEOUT_CLASSES_MS,
    AliasConfig,
    CandidateConfig,
    Config,
    EscalateConfig,
    ProviderConfig,
    cascade_warnings,
    class_of,
    credential_warnings,
    door_warnings,
    guardrail_warnings,
    panel_warnings,
    rule_warnings,
    same_models,
    tls_warnings,
    zone_of,
)
from relay.config.model import near
from relay.config.pem_files import now
from relay.prices import USUAL_TIERS, known_price


def warnings(config: Config) -> list[str]:
    """One line each; none holds a secret."""
    at = now()
    found: list[str] = tls_warnings(config, at)
    found += credential_warnings(config, at)
    found += door_warnings(config)
    found += guardrail_warnings(config.guardrails)
    for alias, row in config.models.items():
        path = f"models.{alias}"
        if row.hedge.mode != "disabled":
            found += _of_hedge(f"{path}.hedge", row, config)
        found += _of_zones(path, row, config)
        if row.choose.mode != "ordered" and row.choose.sort != "configured":
            found.append(
                f"{path}.choose.sort is {row.choose.sort}, which only `mode: ordered` looks at;"
                f" the mode is {row.choose.mode}"
            )
    for name, provider in config.providers.items():
        if (tier := provider.service_tier) and not _has_tier(provider, tier):
            known = ", ".join(provider.service_tiers) or "none"
            found.append(
                f"providers.{name}.service_tier is {tier}, which it is not known to have: {known}"
            )
    found += rule_warnings(config)
    found += cascade_warnings(config)
    found += panel_warnings(config)
    found += _arms_of_nobody(config)
    found += _shadows_without_a_price(config)
    found += _prices_that_rules_need(config)
    found += _addresses_of_nobody(config)
    found += _classes_of_one(config)
    found += _prices_of_nobody(config)
    if config.audit is not None and config.audit.anchor is None:
        found.append(
            "audit.anchor is null: that the log's end is cut off, or that somebody with the key"
            " wrote it anew, cannot be seen"
        )
    if config.auth is not None and config.store is not None and not config.store.ledger:
        found.append(
            "store.ledger is false: limits, budgets and greatest costs of keys are held with the"
            " accounts, so a key that has any is refused (503)"
        )
    exact = config.cache.exact if config.cache is not None else None
    if exact is not None and exact.share == "everyone" and config.auth is not None:
        found.append(
            "cache.exact.share is everyone: teams are given each other's answers, and the time that"
            " one takes tells a team what another has asked"
        )
    if not config.providers:
        found.append("no provider is configured: every request will be answered with 404")
    if config.store is not None and not config.store.url.get_secret_value().startswith("sqlite:"):
        found.append("store.url: this version keeps what it learns in SQLite only")
    return found


def _of_hedge(path: str, row: AliasConfig, config: Config) -> Iterator[str]:
    """Of an alias whose hedges are sent, or decided in shadow mode."""
    hedge, candidates = row.hedge, list(dict.fromkeys(row.candidates))
    escalates = hedge.escalate.tier is not None
    if hedge.keep_second_warm == "auto" and not _has_second_cache(candidates, config):
        yield (
            f"{path}.keep_second_warm is auto, but there is no second candidate that keeps prompts"
            " (`caches_prompts`): nothing is kept warm"
        )
    if len(candidates) < 2 and not escalates:
        yield (
            f"{path} is {hedge.mode}, but there is only one candidate:"
            " a hedge can only ask it again, over another connection"
        )
        return
    if hedge.max_attempts < 2:
        yield f"{path} is {hedge.mode}, but `max_attempts: 1` leaves no place for a second attempt"
    elif hedge.max_attempts > (most := len(candidates) + escalates):
        yield (
            f"{path}.max_attempts is {hedge.max_attempts}, but there are only {most}"
            f" candidates to ask{', the dearer tier of the first included' if escalates else ''}"
        )
    if hedge.max_extra_requests == 0:
        yield f"{path} is {hedge.mode}, but `max_extra_requests: 0` pays for no hedge"
    limit_ms, of_class = _first_token_ms(row)
    if isinstance(hedge.delay, int) and hedge.delay >= limit_ms:
        yield (
            f"{path}.delay is {hedge.delay} ms, but an attempt without a first token is given up"
            f" after {limit_ms} ms ({of_class}): no hedge will start before"
        )
    if dear := [each for each in candidates if not _has_price(each, config)]:
        names = ", ".join(f"{each.provider}/{each.model}" for each in dear)
        rows = " and ".join(dict.fromkeys(f"providers.{each.provider}.prices" for each in dear))
        yield (
            f"{path} is {hedge.mode}, but no price is known of {names}: max_extra_cost cannot hold"
            f" there, only max_extra_requests does; give prices in {rows}"
        )

    if others := _other_models(candidates, config):
        yield (
            f"{path} is {hedge.mode}, but its candidates are not one model: {others}; a hedge may"
            " be answered by another than the one first asked (`same_as` says which are the same)"
        )
    if escalates:
        yield from _of_escalation(f"{path}.escalate", hedge.escalate, candidates, config)


def _has_second_cache(candidates: list[CandidateConfig], config: Config) -> bool:
    """Whether, whoever is first, another can be kept warm (`planner.second_to_warm`)."""
    if len(candidates) < 2:
        return False
    return any(config.providers[each.provider].caches_prompts for each in candidates)


def _of_zones(path: str, row: AliasConfig, config: Config) -> Iterator[str]:
    """Targets that an alias lists and never asks."""
    if row.zones is None:
        return
    for kind in ("candidates", "fallbacks"):
        for index, target in enumerate(getattr(row, kind)):
            zone = _zone_of(target, config)
            if zone in row.zones:
                continue
            where = (
                f"is in {zone}"
                if zone
                else f"is in no known zone (providers.{target.provider}.data_zone is not given)"
            )
            yield (
                f"{path}.{kind}[{index}]: {target.provider}/{target.model} {where}, and `zones` are"
                f" {', '.join(row.zones)}: it is never asked"
            )


def _zone_of(target: CandidateConfig, config: Config) -> str:
    row, door = _row_of(target, config)
    return zone_of(row.zoned_as(door), row.zone_at(door), target.model)


def _class_of(target: CandidateConfig, config: Config) -> str:
    row, door = _row_of(target, config)
    return class_of(door, target.model, row.same_as)


def _row_of(target: CandidateConfig, config: Config) -> tuple[ProviderConfig, str]:
    row = config.providers[target.provider]
    return row, row.door or target.provider


def _other_models(candidates: list[CandidateConfig], config: Config) -> str:
    """The classes of candidates that are not all of one; empty where none has any, since there
    nothing is known."""
    classes = {f"{c.provider}/{c.model}": _class_of(c, config) for c in candidates}
    if len(set(classes.values())) < 2:
        return ""
    return ", ".join(f"{name} ({known or 'no class'})" for name, known in classes.items())


def _of_escalation(
    path: str, escalate: EscalateConfig, candidates: list[CandidateConfig], config: Config
) -> Iterator[str]:
    tier = escalate.tier or ""
    for target in candidates:
        row, _ = _row_of(target, config)
        name = f"{target.provider}/{target.model}"
        if not _has_tier(row, tier):
            yield f"{path}: {target.provider} is not known to have a tier {tier}; it is not asked"
        elif not _has_price(target, config, tier):
            yield (
                f"{path}: no price is known of {name} at tier {tier}, so it is not asked; give"
                f" providers.{target.provider}.prices.{target.model}.tiers.{tier}"
            )


def _addresses_of_nobody(config: Config) -> Iterator[str]:
    """Hosts below `.invalid` (RFC 6761), as `relay import` writes for one that it does not know."""
    for name, row in config.providers.items():
        host = urlsplit(row.base_url).hostname or ""
        if host.rstrip(".").endswith(".invalid"):
            yield (
                f"providers.{name}.base_url: {host} stands for an address and reaches nobody:"
                " put the provider's in its place"
            )


def _has_tier(row: ProviderConfig, tier: str) -> bool:
    return tier in USUAL_TIERS or tier in row.service_tiers


def _classes_of_one(config: Config) -> Iterator[str]:
    """Words of `same_as` that no other name has: most likely a slip of the pen."""
    told = [word for row in config.providers.values() for word in row.same_as.values()]
    for name, row in config.providers.items():
        for model, word in row.same_as.items():
            if word in same_models() or told.count(word) > 1:
                continue
            yield (
                f"providers.{name}.same_as.{model}: nothing else is the same as {word!r}"
                f"{near(word, {*same_models(), *told} - {word})}"
            )


def _first_token_ms(row: AliasConfig) -> tuple[int, str]:
    """The shortest limit that a request of this alias may have, and where it is from."""
    given = row.timeouts
    if given.first_token_ms is not None:
        return given.first_token_ms, "timeouts.first_token_ms"
    name = "default" if given.timeout_class == "auto" else given.timeout_class
    return TIMEOUT_CLASSES_MS[name]["first_token_ms"], f"class {name}"


def _has_price(target: CandidateConfig, config: Config, tier: str = "") -> bool:
    """As `Endpoint.price_of` finds one."""
    row, door = _row_of(target, config)
    if target.model in row.prices:
        return not tier or tier in row.prices[target.model].tiers
    tier = tier or row.service_tier
    names = (target.model, row.same_as.get(target.model))
    return any(name is not None and known_price(door, name, tier) is not None for name in names)


def _arms_of_nobody(config: Config) -> Iterator[str]:
    for name, row in config.policies.experiments.items():
        for index, arm in enumerate(row.arms):
            if arm.weight == 0:
                of = "the control, with which the others are compared, " if index == 0 else ""
                yield (
                    f"policies.experiments.{name}.arms[{index}].weight is 0: {of}{arm.name!r}"
                    " gets nobody"
                )


def _shadows_without_a_price(config: Config) -> Iterator[str]:
    """They stop with the first copy, since nothing says when the day's money is spent."""
    for name, row in config.policies.shadows.items():
        alias = config.models.get(row.use)
        if alias is None or not row.enabled or not row.max_cost_micro_per_day:
            continue
        for target in alias.candidates:
            if not _has_price(target, config):
                asked = f"{target.provider}/{target.model}"
                yield (
                    f"policies.shadows.{name}: no price is known of {asked}, so copying ends with"
                    " the first copy of it; give it `prices`, or max_cost_micro_per_day: 0"
                )


def _prices_that_rules_need(config: Config) -> Iterator[str]:
    """Aliases that a rule picks by price and that have none: never taken, or last."""
    for index, rule in enumerate(config.policies.rules):
        pick = rule.pick
        if pick is None or not (pick.by == "price" or pick.has_price_bounds):
            continue
        names = pick.among or [
            alias for alias, row in config.models.items() if pick.tag in row.tags
        ]
        for name in names:
            alias = config.models.get(name)
            if alias is None or all(_has_price(each, config) for each in alias.candidates):
                continue
            what = "it is never taken" if pick.has_price_bounds else "it is taken last"
            yield f"policies.rules[{index}].pick: {name} has no known price, so {what}"


def _prices_of_nobody(config: Config) -> Iterator[str]:
    """Prices whose model is in no list and no alias, most likely for a slip of the pen."""
    models = {name: set(row.models) for name, row in config.providers.items()}
    for alias in config.models.values():
        for target in (*alias.candidates, *alias.fallbacks):
            models[target.provider].add(target.model)
    for name, row in config.providers.items():
        for model in row.prices:
            if model not in models[name]:
                near = difflib.get_close_matches(model, sorted(models[name]), 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                yield (
                    f"providers.{name}.prices: no alias asks for {model!r} and the row does not"
                    f" list it{hint}"
                )
