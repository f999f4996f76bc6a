"""The report on experiments as text; needs scipy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from relay.config.experiments import ExperimentConfig
from relay.observability.experiments.compare import compare
from relay.observability.experiments.data import as_data
from relay.observability.experiments.page import page
from relay.observability.experiments.rows import Notes, Observed
from relay.observability.report.markdown import markdown


def written(
    found: Mapping[str, Sequence[Observed]],
    rows: Mapping[str, ExperimentConfig],
    notes: Notes,
    *,
    confidence: float,
    is_json: bool,
) -> str:
    """
    Args:
        found: answers, by experiment.
        rows: of the configuration, by experiment; those of others are not needed.
        confidence: of bounds, below 1.
    """
    comparisons = []
    for name, observed in found.items():
        row = rows.get(name)
        comparisons.append(
            compare(
                name,
                observed,
                control="" if row is None else row.control_arm,
                weights=None if row is None else {arm.name: arm.weight for arm in row.arms},
                confidence=confidence,
            )
        )
    if not is_json:
        return markdown(page(comparisons, notes))
    value = {
        "experiments": [as_data(one) for one in comparisons],
        "unreadable_lines": notes.unreadable,
        "open": notes.open,
    }
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"
