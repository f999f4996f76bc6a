"""Exported rows as CSV, JSON lines or Parquet, in pieces of bytes.

CSV is RFC 4180 with `\\r\\n`, empty where there is nothing, true and false in words. A text that a
spreadsheet would take for a formula gets an apostrophe before it
(https://owasp.org/www-community/attacks/CSV_Injection). Parquet takes `rtrelay[parquet]`; dollars
are decimals of 6 digits after the point there, and a page is a row group.

Blocking: called in a thread.
"""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

import orjson

from relay.store.usage_export import Kind, Shape, columns, nested
from relay.store.usage_fields import UsageError

FORMATS: Final = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
"""Formats and their media types."""
_DANGEROUS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
_PARQUET_ROWS: Final = 5000

Pages = Iterable[list[dict[str, Any]]]


def pieces(pages: Pages, shape: Shape, file_format: str) -> Iterator[bytes]:
    """The file; at least one piece, which comes when the first page was read.

    Raises:
        UsageError: no such format, or what it takes is not installed; at once.
    """
    if file_format not in FORMATS:
        raise UsageError(f"format: {file_format[:32]!r} is none of {', '.join(FORMATS)}")
    if file_format == "parquet":
        _parquet_modules()
    return _PIECES[file_format](pages, columns(shape))


# --- CSV ------------------------------------------------------------------------------------


def safe_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula; it also ends at no NUL."""
    text = text.replace("\0", "")
    return f"'{text}" if text.lstrip(" ").startswith(_DANGEROUS) else text


def _csv(pages: Pages, kinds: Mapping[str, Kind]) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(kinds)
    makers = [(name, _CELLS[kind]) for name, kind in kinds.items()]
    for page in pages:
        writer.writerows([make(row[name]) for name, make in makers] for row in page)
        yield buffer.getvalue().encode(errors="replace")
        buffer.seek(0)
        buffer.truncate()
    if rest := buffer.getvalue():
        yield rest.encode()


def _text_cell(value: Any) -> str:
    if value is None:
        return ""
    return safe_text(value if isinstance(value, str) else orjson.dumps(value).decode())


def _number_cell(value: Any) -> Any:
    return "" if value is None else value


def _flag_cell(value: Any) -> str:
    return "" if value is None else ("true" if value else "false")


_CELLS: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    "text": _text_cell,
    "integer": _number_cell,
    "decimal": _number_cell,
    "flag": _flag_cell,
}


# --- JSON lines -----------------------------------------------------------------------------


def _jsonl(pages: Pages, _: Mapping[str, Kind]) -> Iterator[bytes]:
    is_empty = True
    for page in pages:
        is_empty = False
        yield b"".join(orjson.dumps(nested(row)) + b"\n" for row in page)
    if is_empty:
        yield b""


# --- Parquet --------------------------------------------------------------------------------


def _parquet_modules() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError(
            "format: parquet takes pyarrow, which is not installed: pip install 'rtrelay[parquet]'"
        ) from None


class _Taken(io.RawIOBase):
    """A file whose bytes are taken away as they come."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._at = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._at += len(part)
        return len(part)

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def _parquet(pages: Pages, kinds: Mapping[str, Kind]) -> Iterator[bytes]:
    arrow, parquet = _parquet_modules()
    types = {
        "text": arrow.string(),
        "integer": arrow.int64(),
        "decimal": arrow.decimal128(25, 6),
        "flag": arrow.bool_(),
    }
    schema = arrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    sink = _Taken()
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        for page in _grouped(pages):
            arrays = [
                arrow.array([_arrow_value(row[name], kind) for row in page], types[kind])
                for name, kind in kinds.items()
            ]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            if part := sink.take():
                yield part
    yield sink.take()


def _grouped(pages: Pages) -> Pages:
    """Row groups large enough to be worth it."""
    group: list[dict[str, Any]] = []
    for page in pages:
        group += page
        if len(group) >= _PARQUET_ROWS:
            yield group
            group = []
    if group:
        yield group


def _arrow_value(value: Any, kind: Kind) -> Any:
    if value is None:
        return None
    if kind == "decimal":
        return Decimal(value)
    if kind == "text" and not isinstance(value, str):
        return orjson.dumps(value).decode()
    return value


_PIECES: Final[Mapping[str, Callable[[Pages, Mapping[str, Kind]], Iterator[bytes]]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
