"""The report on experiments as text; needs scipy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from relay.config.experiments import ExperimentConfig
from relay.observability.experiments.compare import compare
from relay.observability.experiments.copies import report_of
from relay.observability.experiments.data import as_data
from relay.observability.experiments.page import copies_page, page
from relay.observability.experiments.rows import Copied, Notes, Observed
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


def copies_written(
    found: Mapping[str, Sequence[Copied]], *, confidence: float, is_json: bool
) -> str:
    """Of shadows.

    Args:
        found: copies, by shadow.
    """
    reports = [report_of(name, found[name], confidence) for name in sorted(found)]
    if not is_json:
        return markdown(copies_page(reports, confidence))
    value = {"shadows": [one.as_data() for one in reports]}
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n"
