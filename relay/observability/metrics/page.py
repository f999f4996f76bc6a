"""A joined snapshot as the text that Prometheus reads.

prometheus-client writes it, some thousand samples of a family at a time: between two pieces others
have their turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from relay.observability.metrics.families import FAMILIES, Family, Kind, values_of
from relay.observability.metrics.snapshot import Rows, Value

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
PIECE_SAMPLES: Final = 200
"""About a millisecond of CPU."""


class SeriesCollector(Collector):
    """Makes families of a joined snapshot, in the order of the table; large ones in pieces, each a
    `Metric` of its own.

    Args:
        bounds: of each histogram family's buckets, by its name, seconds.
    """

    def __init__(self, series: Mapping[str, Rows], bounds: Mapping[str, tuple[float, ...]]) -> None:
        self._series = series
        self._bounds = {
            name: [*map(floatToGoString, found), "+Inf"] for name, found in bounds.items()
        }

    def collect(self) -> Iterator[Metric]:
        """The pieces."""
        for name, family in FAMILIES.items():
            rows = self._series.get(name)
            if rows:
                yield from self._pieces(family, rows)

    def _pieces(self, family: Family, rows: Rows) -> Iterator[Metric]:
        metric = _metric(family)
        for key, value in rows.items():
            labels = dict(zip(family.labels, values_of(key), strict=True)) if family.labels else {}
            self._add(metric, family, labels, value)
            if len(metric.samples) >= PIECE_SAMPLES:
                yield metric
                metric = _metric(family)
        if metric.samples:
            yield metric

    def _add(self, metric: Metric, family: Family, labels: dict[str, str], value: Value) -> None:
        name = family.name
        if not isinstance(value, list):
            metric.add_sample(name, labels, value)
            return
        count = 0.0
        for bound, more in zip(self._bounds[name], value, strict=False):
            count += more
            metric.add_sample(f"{name}_bucket", {**labels, "le": bound}, count)
        metric.add_sample(f"{name}_count", labels, count)
        metric.add_sample(f"{name}_sum", labels, value[-1])


def _metric(family: Family) -> Metric:
    name = family.name
    if family.kind is Kind.COUNTER:
        name = name.removesuffix("_total")
    return Metric(name, family.help, family.kind.value)


class _Piece(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def texts(series: Mapping[str, Rows], bounds: Mapping[str, tuple[float, ...]]) -> Iterator[bytes]:
    """The page piece by piece; a family's HELP and TYPE come with its first."""
    last = ""
    for metric in SeriesCollector(series, bounds).collect():
        text = generate_latest(_Piece(metric))
        if metric.name == last:
            text = text.split(b"\n", 2)[2]
        last = metric.name
        yield text


async def page(series: Mapping[str, Rows], bounds: Mapping[str, tuple[float, ...]]) -> bytes:
    """The whole page. The loop is held for a piece at a time."""
    found: list[bytes] = []
    for text in texts(series, bounds):
        found.append(text)
        await asyncio.sleep(0)
    return b"".join(found)
