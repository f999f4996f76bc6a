"""Panels that are accepted and will not do what was meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from relay.config.panels import PanelConfig
from relay.config.whole import Config


def panel_warnings(config: Config) -> Iterator[str]:
    """One line each."""
    for name, row in config.policies.panels.items():
        yield from _of_panel(f"policies.panels.{name}", row)


def _of_panel(path: str, row: PanelConfig) -> Iterator[str]:
    alike = Counter((one.model, one.seed) for one in row.members if one.temperature == 0)
    for (model, _), times in alike.items():
        if times > 1:
            yield (
                f"{path}: {model} is asked {times} times with temperature 0 and the same seed: its"
                " answers will agree with each other, right or wrong"
            )
    if row.judge_model is not None and row.judge_model in {one.model for one in row.members}:
        yield f"{path}: {row.judge_model} judges its own answers, and models prefer those"
    majority = row.decide.majority
    total = sum(member.weight for member in row.members)
    if majority is not None and majority.quorum is not None and majority.quorum <= total / 2:
        yield (
            f"{path}.decide.majority.quorum: {majority.quorum:g} of {total:g} votes is no majority:"
            " the first answer that has them is given, though another may have as many"
        )
    if row.on_too_few == "any" and row.min_answers == 1 and row.wait_ms is None:
        yield f"{path}.on_too_few is any, which changes nothing: min_answers is 1, without wait_ms"
