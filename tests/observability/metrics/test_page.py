"""The text: read back by prometheus-client's own parser, and never long at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from prometheus_client.parser import text_string_to_metric_families

from relay.config import MetricsConfig
from relay.observability.metrics.bounds import bounds_by_name
from relay.observability.metrics.families import FAMILIES, Kind, key_of
from relay.observability.metrics.page import PIECE_LINES, page, texts
from relay.observability.metrics.snapshot import Series

BOUNDS = bounds_by_name(MetricsConfig())


def everything(rows: int) -> Series:
    """So many rows of every family."""
    series: Series = {}
    for name, family in FAMILIES.items():
        for index in range(rows if family.labels else 1):
            key = key_of(*(f"{label}-{index}" for label in family.labels))
            value: float | list[float] = float(index)
            if family.kind is Kind.HISTOGRAM:
                value = [*range(len(BOUNDS[name]) + 1), 1.5]
            series.setdefault(name, {})[key] = value
    return series


def test_the_parser_finds_what_was_told() -> None:
    series = everything(30)
    text = "".join(texts(series, BOUNDS))
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert len(found) == len(FAMILIES)
    for name, family in FAMILIES.items():
        read = found[name.removesuffix("_total")]
        assert (read.type, read.documentation) == (family.kind.value, family.help)
        rows = series[name]
        labels = {
            tuple(sample.labels[label] for label in family.labels)
            for sample in read.samples
            if "le" not in sample.labels
        }
        assert labels == {tuple(key.split("\x1f")) if family.labels else () for key in rows}, name
        if family.kind is not Kind.HISTOGRAM:
            assert [sample.value for sample in read.samples] == list(rows.values())
    assert max(Counter(line for line in text.splitlines() if line[0] == "#").values()) == 1


def test_buckets_are_cumulative_and_have_their_bounds() -> None:
    name = "rtrelay_added_latency_seconds"
    bounds = BOUNDS[name]
    counts = [2.0] * (len(bounds) + 1)
    text = "".join(texts({name: {"generate": [*counts, 3.25]}}, BOUNDS))
    (family,) = text_string_to_metric_families(text)
    buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
    assert [float(sample.labels["le"]) for sample in buckets] == [*bounds, float("inf")]
    assert [sample.value for sample in buckets] == [2.0 * n for n in range(1, len(bounds) + 2)]
    rest = {sample.name: sample.value for sample in family.samples if "le" not in sample.labels}
    assert rest == {f"{name}_count": 2.0 * (len(bounds) + 1), f"{name}_sum": 3.25}
    assert bounds[0] == 0.0001, "sub-millisecond"


def test_names_are_escaped() -> None:
    odd = 'a"b\\c\nd{e}'
    series: Series = {"rtrelay_attempts_sent_total": {key_of("lab", odd): 1}}
    (family,) = text_string_to_metric_families("".join(texts(series, BOUNDS)))
    assert family.samples[0].labels == {"provider": "lab", "model": odd}


def test_a_separator_in_a_name_makes_no_further_label() -> None:
    assert key_of("a\x1fb", "c") == "a?b\x1fc"


def test_pieces_are_small() -> None:
    most = max(text.count("\n") for text in texts(everything(300), BOUNDS))
    assert most < PIECE_LINES + 45


async def test_others_have_their_turn() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    series = everything(300)
    pieces = len(list(texts(series, BOUNDS)))
    task = asyncio.create_task(other())
    began_s = time.perf_counter()
    assert await page(series, BOUNDS)
    assert time.perf_counter() > began_s
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert turns >= pieces > 20


def test_no_rows_no_text() -> None:
    assert list(texts({}, BOUNDS)) == []
    assert list(texts({"rtrelay_sessions": {}}, BOUNDS)) == []
