"""A joined snapshot as the text that Prometheus reads (exposition format 0.0.4).

A page of a thousand targets has seventy thousand lines, for which prometheus-client's own writer
takes some five microseconds each. This one writes a row of a family at once, and others have their
turn of the loop every few hundred lines; that client's parser reads it in the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.utils import floatToGoString

from relay.observability.metrics.families import FAMILIES, Family, values_of
from relay.observability.metrics.snapshot import Rows

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
PIECE_LINES: Final = 500
"""Some hundred microseconds of CPU."""
_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def texts(series: Mapping[str, Rows], bounds: Mapping[str, tuple[float, ...]]) -> Iterator[str]:
    """The page piece by piece, families in the order of the table.

    Args:
        bounds: of each histogram family's buckets, by its name, seconds.
    """
    lines: list[str] = []
    for name, family in FAMILIES.items():
        rows = series.get(name)
        if not rows:
            continue
        lines.append(f"# HELP {name} {_help(family)}")
        lines.append(f"# TYPE {name} {family.kind.value}")
        les = [f'le="{_real(bound)}"' for bound in (*bounds.get(name, ()), float("inf"))]
        for key, value in rows.items():
            labels = _labels(family, key)
            if isinstance(value, list):
                lines += _histogram(name, labels, les, value)
            else:
                lines.append(f"{name}{{{labels}}} {_number(value)}")
            if len(lines) >= PIECE_LINES:
                yield "\n".join(lines) + "\n"
                lines.clear()
    if lines:
        yield "\n".join(lines) + "\n"


def _help(family: Family) -> str:
    return family.help.replace("\\", r"\\").replace("\n", r"\n")


def _labels(family: Family, key: str) -> str:
    if not family.labels:
        return ""
    if "\\" in key or '"' in key or "\n" in key:
        key = key.translate(_ESCAPES)
    values = zip(family.labels, values_of(key), strict=True)
    return ",".join([f'{name}="{value}"' for name, value in values])


def _histogram(name: str, labels: str, les: list[str], row: list[float]) -> Iterator[str]:
    head = f"{name}_bucket{{{labels}," if labels else f"{name}_bucket{{"
    count = 0.0
    for le, more in zip(les, row, strict=False):
        count += more
        yield f"{head}{le}}} {count:.0f}"
    yield f"{name}_count{{{labels}}} {count:.0f}"
    yield f"{name}_sum{{{labels}}} {_real(row[-1])}"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else _real(value)


def _real(value: float) -> str:
    """As Go writes it, and so Prometheus."""
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call]
    return text


async def page(series: Mapping[str, Rows], bounds: Mapping[str, tuple[float, ...]]) -> bytes:
    """The whole page. The loop is held for a piece at a time."""
    found: list[bytes] = []
    for text in texts(series, bounds):
        found.append(text.encode())
        await asyncio.sleep(0)
    return b"".join(found)
