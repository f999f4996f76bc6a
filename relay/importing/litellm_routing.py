"""LiteLLM's groups, fallbacks and strategies: our aliases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from relay.importing.draft import Alias, Draft, name_of, without_doubles
from relay.importing.litellm_deployments import Deployment
from relay.importing.reading import Section
from relay.importing.report import Report

_CHOICES: Final[Mapping[str, tuple[dict[str, str], str]]] = {
    "simple-shuffle": (
        {"mode": "balanced"},
        "deployments are not drawn at random: `balanced` asks whoever is quickest at present",
    ),
    "least-busy": ({"mode": "balanced"}, "`balanced` goes by present latency and load"),
    "latency-based-routing": ({"mode": "balanced"}, "`balanced` goes by the time to first token"),
    "usage-based-routing": (
        {"mode": "balanced"},
        "`balanced` goes by latency and load, and leaves alone what is over its rpm and tpm",
    ),
    "usage-based-routing-v2": (
        {"mode": "balanced"},
        "`balanced` goes by latency and load, and leaves alone what is over its rpm and tpm",
    ),
    "cost-based-routing": (
        {"mode": "ordered", "sort": "cheapest"},
        "the cheapest is asked first by published prices, or the row's own",
    ),
}


def aliases_of(
    deployments: Sequence[Deployment], strategy: str, path: str, draft: Draft, report: Report
) -> dict[str, Alias]:
    """An alias for each group, by the group's name."""
    groups: dict[str, list[Deployment]] = {}
    for one in deployments:
        groups.setdefault(one.group, []).append(one)
    found: dict[str, Alias] = {}
    for group, members in groups.items():
        if "*" in group:
            _wildcard(group, members, report)
            continue
        name = name_of(group, draft.aliases, "model")
        alias = Alias(name)
        for tag in (tag for member in members for tag in member.tags):
            if tag not in alias.tags:
                alias.tags.append(tag)
        members = _in_order(members, report)
        alias.candidates = without_doubles(member.target for member in members)
        if len(alias.candidates) > 1:
            _choose(alias, members, strategy, path, report)
        _timeouts(alias, members, report)
        by_name = f"{alias.candidates[0].provider}/{alias.candidates[0].model}"
        is_needed = group != by_name or len(alias.candidates) > 1 or bool(alias.timeouts)
        if name != group and is_needed:
            alias.notes.append(f"{group} in their file")
            report.leave(
                members[0].path,
                f"{group!r} cannot be the name of an alias: clients ask for {name!r}",
            )
        found[group] = alias
        if name == group or is_needed:
            draft.aliases[name] = alias
    return found


def _wildcard(group: str, members: Sequence[Deployment], report: Report) -> None:
    for member in members:
        provider = member.target.provider
        if group == f"{provider}/*":
            report.differ(member.path, f"every model of it can be asked for as {provider}/NAME")
        else:
            report.leave(
                member.path,
                f"{group!r}: aliases have no wildcards; clients ask for {provider}/NAME, or give"
                " each model an alias",
            )


def _in_order(members: list[Deployment], report: Report) -> list[Deployment]:
    """By `order`, then the heavier first."""
    for member in members:
        if member.weight is not None:
            report.differ(
                f"{member.path}.litellm_params.weight",
                "traffic is not split by weights: the heavier is listed first",
            )
    return sorted(
        members,
        key=lambda member: (member.order or 0.0, -(member.weight or 0.0)),
    )


def _choose(
    alias: Alias, members: Sequence[Deployment], strategy: str, path: str, report: Report
) -> None:
    if any(member.order is not None for member in members):
        report.differ(
            f"{members[0].path}.litellm_params.order",
            f"candidates of {alias.name!r} are asked in this order, one after the other",
        )
        return
    choice = _CHOICES.get(strategy or "simple-shuffle")
    if choice is None:
        report.leave(path, "the strategy is not known; see `choose` in docs/hedging.md")
        return
    alias.choose = dict(choice[0])
    report.differ(path, choice[1])


def _timeouts(alias: Alias, members: Sequence[Deployment], report: Report) -> None:
    for field, name in (("timeout_ms", "total_ms"), ("stream_timeout_ms", "first_token_ms")):
        given = [value for member in members if (value := getattr(member, field)) is not None]
        if given:
            alias.timeouts[name] = max(given)
        if len(set(given)) > 1:
            report.differ(
                members[0].path, f"limits are the alias' own: the longest of its group ({name})"
            )


def add_fallbacks(
    section: Section, name: str, aliases: Mapping[str, Alias], report: Report
) -> None:
    """`fallbacks`, `[{group: [group, ...]}]`: the targets of those groups, in this order."""
    path = section.path_of(name)
    own: dict[str, list[str]] = {}
    for index, entry in enumerate(section.items(name)):
        if not isinstance(entry, dict):
            report.leave(f"{path}[{index}]", "a mapping of a group to a list is expected")
            continue
        for group, others in entry.items():
            listed = others if isinstance(others, list) else [others]
            own.setdefault(str(group), []).extend(
                _groups(listed, f"{path}[{index}].{group}", aliases, report)
            )
    for_all = own.pop("*", [])
    for group, others in own.items():
        if group not in aliases:
            report.leave(path, f"there is no group {group!r} that it could be of")
            continue
        _add(aliases[group], others, aliases)
    for group, alias in aliases.items():
        if group not in own:
            _add(alias, for_all, aliases)


def add_default_fallbacks(section: Section, aliases: Mapping[str, Alias], report: Report) -> None:
    """`default_fallbacks`: behind those of every group."""
    path = section.path_of("default_fallbacks")
    others = _groups(section.items("default_fallbacks"), path, aliases, report)
    for alias in aliases.values():
        _add(alias, others, aliases)


def _groups(
    listed: Sequence[Any], path: str, aliases: Mapping[str, Alias], report: Report
) -> list[str]:
    found: list[str] = []
    for other in listed:
        if isinstance(other, str) and other in aliases:
            found.append(other)
        else:
            shown = f"{other!r} is" if isinstance(other, str) else "one of them is"
            report.leave(path, f"{shown} no group of this file that is served here")
    return found


def _add(alias: Alias, groups: Sequence[str], aliases: Mapping[str, Alias]) -> None:
    more = [target for group in groups for target in aliases[group].candidates]
    alias.fallbacks += without_doubles(more, [*alias.candidates, *alias.fallbacks])


def add_group_aliases(
    section: Section, aliases: dict[str, Alias], draft: Draft, report: Report
) -> None:
    """`model_group_alias`: the same under another name."""
    path = section.path_of("model_group_alias")
    given = section.take("model_group_alias")
    for other, group in (given if isinstance(given, dict) else {}).items():
        is_hidden = isinstance(group, dict) and bool(group.get("hidden"))
        of = group.get("model") if isinstance(group, dict) else group
        if not isinstance(of, str) or of not in aliases:
            report.leave(f"{path}.{other}", "it stands for no group of this file")
            continue
        if is_hidden:
            report.differ(f"{path}.{other}", "no alias is hidden: /v1/models lists all of them")
        name = name_of(str(other), draft.aliases, "model")
        if name != str(other):
            report.leave(f"{path}.{other}", f"this cannot be an alias' name: {name!r} is written")
        shown = aliases[of]
        draft.aliases[name] = Alias(
            name,
            list(shown.candidates),
            list(shown.fallbacks),
            list(shown.tags),
            dict(shown.timeouts),
            dict(shown.choose),
            [f"{of} under another name"],
        )
