"""A page of metrics as a test asks it: `page.sum("rtrelay_attempts_sent_total", model="m")`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import httpx2
from prometheus_client.parser import text_string_to_metric_families


class MetricsPage:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                row = (dict(sample.labels), float(sample.value))
                self.samples.setdefault(sample.name, []).append(row)

    @classmethod
    async def get(cls, admin: httpx2.AsyncClient, **headers: str) -> Self:
        """Scrape it."""
        response = await admin.get("/metrics", headers=headers)
        assert response.status_code == 200, response.text
        return cls(response.text)

    def _rows(self, name: str, labels: dict[str, str]) -> Iterator[tuple[dict[str, str], float]]:
        for own, value in self.samples.get(name, []):
            if all(own.get(label) == wanted for label, wanted in labels.items()):
                yield own, value

    def sum(self, name: str, /, **labels: str) -> float:
        """Of all rows with these labels; 0 for none."""
        return sum(value for _, value in self._rows(name, labels))

    def by(self, label: str, name: str, /, **labels: str) -> dict[str, float]:
        """The same by one label's values, without those that are 0."""
        found: dict[str, float] = {}
        for own, value in self._rows(name, labels):
            if value:
                found[own[label]] = found.get(own[label], 0.0) + value
        return found

    @property
    def counters(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Everything that must not go down."""
        return {
            (name, tuple(sorted(labels.items()))): value
            for name, rows in self.samples.items()
            if name.endswith(("_total", "_bucket", "_count", "_sum"))
            for labels, value in rows
        }
