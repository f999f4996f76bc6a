"""Whether rules name what is there."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from relay.config.model import near
from relay.config.rules import TAG, RuleConfig, named


def check_rules(
    rules: tuple[RuleConfig, ...],
    *,
    aliases: Mapping[str, Collection[str]],
    compositions: Collection[str],
    providers: Mapping[str, Collection[str]],
) -> None:
    """
    Args:
        aliases: with their tags.
        compositions: names of cascades and panels.
        providers: with the models that their rows list.

    Raises:
        ValueError: two rules have one name, or one names what is not there; tells its path.
    """
    seen: dict[str, int] = {}
    names = {*aliases, *compositions, *(one for listed in providers.values() for one in listed)}
    tags = {tag for words in aliases.values() for tag in words}
    for index, (name, rule) in enumerate(named(rules)):
        path = f"policies.rules[{index}]"
        if name in seen:
            raise ValueError(f"{path}.name: rules[{seen[name]}] is called {name!r} as well")
        seen[name] = index
        for field, target in _targets(rule):
            if not _is_there(target, names, providers):
                tag = target.removeprefix(TAG)
                if target != tag and tag in tags:
                    raise ValueError(
                        f"{path}.{field}: a tag is no model; write pick: {{tag: {tag}, by: order}}"
                    )
                raise ValueError(
                    f"{path}.{field}: there is no alias, cascade, panel or model"
                    f" {target!r}{near(target, names)}"
                )
            doors = [row for row, listed in providers.items() if target in listed]
            if len(doors) > 1 and target not in aliases and target not in compositions:
                raise ValueError(
                    f"{path}.{field}: {len(doors)} providers list {target!r}; name one of them, as"
                    f" {doors[0]}/{target}"
                )
        for field, alias in _aliases_told_of(rule):
            if alias not in aliases:
                raise ValueError(
                    f"{path}.{field}: there is no alias {alias!r}{near(alias, aliases)}"
                )
        if rule.pick is not None and rule.pick.tag is not None and rule.pick.tag not in tags:
            tag = rule.pick.tag
            raise ValueError(f"{path}.pick.tag: no alias has the tag {tag!r}{near(tag, tags)}")
        if rule.use is None and rule.pick is None and rule.refuse is None:
            for model in rule.when.model or ():
                is_tag = model.startswith(TAG) and model[len(TAG) :] in tags
                if "*" in model or is_tag or _is_there(model, names, providers):
                    continue
                if any(model in (other.when.model or ()) for other in rules if other is not rule):
                    continue  # a name that another rule introduces
                raise ValueError(
                    f"{path}.when.model: nothing is called {model!r}, and the rule says nothing of"
                    f" what it is to become{near(model, names)}"
                )


def _targets(rule: RuleConfig) -> Iterator[tuple[str, str]]:
    if rule.use is not None:
        yield "use", rule.use
    if rule.pick is not None:
        for index, name in enumerate(rule.pick.among or ()):
            yield f"pick.from[{index}]", name


def _aliases_told_of(rule: RuleConfig) -> Iterator[tuple[str, str]]:
    for field, when in (("when", rule.when), ("unless", rule.unless)):
        if when is not None and when.latency is not None:
            yield f"{field}.latency.of", when.latency.of


def _is_there(name: str, names: Collection[str], providers: Collection[str]) -> bool:
    provider, slash, model = name.partition("/")
    return name in names or bool(slash and model and provider in providers)
