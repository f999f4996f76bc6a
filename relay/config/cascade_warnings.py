"""What is said of cascades that is accepted and will not do what was meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.config.whole import Config

_WITHOUT_LOGPROBS: Final = ("anthropic_messages", "bedrock_converse")
"""Wires that cannot ask for log probabilities."""


def cascade_warnings(config: Config) -> Iterator[str]:
    """One line each."""
    for name, row in config.policies.cascades.items():
        path = f"policies.cascades.{name}"
        logprobs = row.escalate.logprobs
        if logprobs is not None:
            without = sorted(_without_logprobs(config, row.small))
            if without and logprobs.on_missing == "large":
                yield (
                    f"{path}.escalate.logprobs: {', '.join(without)} can give none, so that each"
                    " answer there is escalated (on_missing is large)"
                )
            if isinstance(logprobs.tokens, int) and row.commit_after_tokens == "all":
                yield (
                    f"{path}.commit_after_tokens is all: the first {logprobs.tokens} tokens decide,"
                    " and the answer is held to its end nevertheless"
                )
        within_ms = row.small_within_ms
        speculate = row.speculate
        if (
            within_ms is not None
            and speculate is not None
            and speculate.unsure_below is None
            and speculate.after_ms is not None
            and speculate.after_ms >= within_ms
        ):
            yield (
                f"{path}.speculate.after_ms is not before small_within_ms ({within_ms}), when the"
                " large model is started in any case"
            )
        if speculate is not None and 0 in (speculate.max_share, speculate.max_extra_cost):
            yield f"{path}.speculate: a share of 0 leaves nothing to start with"


def _without_logprobs(config: Config, model: str) -> Iterator[str]:
    """Providers of a tier whose wire has no log probabilities."""
    alias = config.models.get(model)
    if alias is not None:
        names = [one.provider for one in (*alias.candidates, *alias.fallbacks)]
    else:
        names = [model.partition("/")[0]]
    for name in dict.fromkeys(names):
        provider = config.providers.get(name)
        if provider is not None and provider.wire in _WITHOUT_LOGPROBS:
            yield name
