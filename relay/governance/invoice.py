"""A provider's invoice against our own accounts: money is Decimal, tokens are integers.

    mapping = mapping_of("openai", {"amount": "cost_usd"})
    lines = read_invoice(text_lines, mapping)
    report = compare(lines, ours, tolerance_percent=Decimal("0.5"), tolerance_micro=10_000)

An invoice is a CSV with a header. A row is one model on one day, or a part of it: rows of the same
day and model are added up. Which column is what is said by a preset or by names.

Pure.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from relay.governance.money import MICRO

FIELDS: Final = (
    "date",
    "model",
    "amount",
    "input_tokens",
    "uncached_tokens",
    "cached_tokens",
    "output_tokens",
    "requests",
)
"""`input_tokens` are all of a prompt, `uncached_tokens` those that were neither read from the
provider's cache nor written to it: some invoices have the one, some the other."""
_COUNTED: Final = FIELDS[3:]
NEEDED: Final = ("date", "model", "amount")
PRESETS: Final[Mapping[str, Mapping[str, str]]] = {
    "plain": {name: name for name in FIELDS},
    "openai": {
        "date": "start_time_iso",
        "model": "model",
        "amount": "amount_value",
        "input_tokens": "input_tokens",
        "cached_tokens": "input_cached_tokens",
        "output_tokens": "output_tokens",
        "requests": "num_model_requests",
    },
    "anthropic": {
        "date": "usage_date_utc",
        "model": "model",
        "amount": "cost_usd",
        "uncached_tokens": "input_tokens",
        "cached_tokens": "cache_read_input_tokens",
        "output_tokens": "output_tokens",
    },
}
"""Columns as exports of the providers' consoles name them, as far as they do; those change, so any
may be named anew."""

MAX_ERRORS: Final = 100
_MOST: Final = Decimal(10) ** 12
_THOUSANDS: Final = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
"""The only commas that are read: with others a number may be ten or a thousand times another."""
_DATED: Final = re.compile(r"-(\d{8}|\d{4}-\d{2}-\d{2})$")


class InvoiceError(ValueError):
    """The file or the mapping is not what was said; the message names field, line or column."""


class BadLine(NamedTuple):
    """A row that cannot be read."""

    line: int
    """In the file, the header is the first."""
    why: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


@dataclass(slots=True)
class Amounts:
    """Of one model on one day. None: nobody says."""

    micro: int = 0
    input_tokens: int | None = None
    uncached_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    requests: int | None = None

    def add(self, other: Amounts) -> None:
        """Add up; what only one says is what that one says."""
        self.micro += other.micro
        for name in _COUNTED:
            mine, more = getattr(self, name), getattr(other, name)
            if more is not None:
                setattr(self, name, (mine or 0) + more)


@dataclass(slots=True)
class Ours(Amounts):
    """What our accounts have, beside the same."""

    upper_micro: int = 0
    """The most it can have been."""
    estimated: int = 0
    """Attempts whose cost is an estimate."""
    unpriced: int = 0
    """Attempts that have no price."""
    edge_micro: int = 0
    """Of what was admitted within an hour of midnight: another zone's day may have it."""


Key = tuple[date, str]


@dataclass(slots=True)
class Invoice:
    """What was read."""

    lines: dict[Key, Amounts] = field(default_factory=dict)
    bad: list[BadLine] = field(default_factory=list)
    """At most `MAX_ERRORS`; `bad_count` has all."""
    bad_count: int = 0
    rows: int = 0


def mapping_of(preset: str = "plain", named: Mapping[str, str] | None = None) -> dict[str, str]:
    """Field to column.

    Raises:
        InvoiceError: no such preset or field.
    """
    if preset not in PRESETS:
        raise InvoiceError(f"preset: {preset[:32]!r} is none of {', '.join(PRESETS)}")
    mapping = dict(PRESETS[preset])
    for name, column in (named or {}).items():
        if name not in FIELDS:
            raise InvoiceError(f"column: {name[:32]!r} is none of {', '.join(FIELDS)}")
        mapping[name] = column
    return mapping


# --- reading --------------------------------------------------------------------------------


def read_invoice(
    lines: Iterable[str],
    mapping: Mapping[str, str],
    *,
    where: ZoneInfo | None = None,
    named: Iterable[str] = (),
) -> Invoice:
    """Read every row that can be read, and tell of the others.

    Args:
        lines: of the file, opened with `newline=""`.
        where: the zone whose day a moment with a time is on; UTC.
        named: fields whose columns were asked for by name: they must be there.

    Raises:
        InvoiceError: there is no header, or it lacks a column that is needed.
    """
    reader = csv.reader(lines, strict=True)
    header = _header(reader)
    at = _columns(header, mapping, (*NEEDED, *named))
    found = Invoice()
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
            if row is None:
                return found
            if not any(cell.strip() for cell in row):
                continue
            found.rows += 1
            key, amounts = _row(row, header, at, where)
        except (csv.Error, InvoiceError) as error:
            found.bad_count += 1
            if len(found.bad) < MAX_ERRORS:
                found.bad.append(BadLine(line, str(error)))
        else:
            found.lines.setdefault(key, Amounts()).add(amounts)


def _header(reader: Iterator[list[str]]) -> list[str]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InvoiceError(f"line 1: {error}") from None
    names = [cell.strip().lstrip("\ufeff") for cell in header]
    if not any(names):
        raise InvoiceError("line 1: a header is expected, and it is empty")
    return names


def _columns(
    header: list[str], mapping: Mapping[str, str], needed: Iterable[str]
) -> dict[str, int]:
    lowered = [name.lower() for name in header]
    at = {}
    for name, column in mapping.items():
        count = lowered.count(column.lower())
        if count > 1:
            raise InvoiceError(f"line 1: the column {column!r} ({name}) is there {count} times")
        if count:
            at[name] = lowered.index(column.lower())
    for name in needed:
        if name not in at:
            raise InvoiceError(
                f"line 1: there is no column {mapping[name]!r} for {name}; there are"
                f" {', '.join(map(repr, header))[:400]}"
            )
    return at


def _row(
    row: list[str], header: list[str], at: Mapping[str, int], where: ZoneInfo | None
) -> tuple[Key, Amounts]:
    if len(row) != len(header):
        raise InvoiceError(f"{len(row)} columns, the header has {len(header)}")
    cells = {name: row[index].strip() for name, index in at.items()}
    model = cells["model"]
    if not model:
        raise InvoiceError("model is empty")
    amounts = Amounts(micro=_micro(cells["amount"]))
    for name in _COUNTED:
        if cells.get(name):
            setattr(amounts, name, _count(name, cells[name]))
    return (_day(cells["date"], where), model), amounts


def _day(text: str, where: ZoneInfo | None) -> date:
    try:
        if text.isdigit() and len(text) >= 9:  # seconds since 1970
            found = datetime.fromtimestamp(int(text), UTC)
        else:
            found = datetime.fromisoformat(text)
            if len(text) <= 10 or found.tzinfo is None:
                return found.date()
    except (ValueError, OverflowError, OSError):
        raise InvoiceError(f"date: {text[:40]!r} is no day like 2026-11-27") from None
    return found.astimezone(where or UTC).date()


def _micro(text: str) -> int:
    plain = text.replace("$", "").replace("USD", "").strip()
    if plain.startswith("(") and plain.endswith(")"):  # how accountants write what is below 0
        plain = f"-{plain[1:-1]}"
    try:
        amount = Decimal(_joined(plain))
    except InvalidOperation:
        raise InvoiceError(f"amount: {text[:40]!r} is no amount of dollars") from None
    if not amount.is_finite() or abs(amount) > _MOST:
        raise InvoiceError(f"amount: {text[:40]!r} is no amount of dollars")
    return int((amount * MICRO).to_integral_value(ROUND_HALF_UP))


def _joined(text: str) -> str:
    """Without the commas between thousands."""
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _count(name: str, text: str) -> int:
    try:
        number = Decimal(_joined(text))
    except InvalidOperation:
        raise InvoiceError(f"{name}: {text[:40]!r} is no whole number") from None
    if not number.is_finite() or number != int(number) or not 0 <= number <= _MOST * 1000:
        raise InvoiceError(f"{name}: {text[:40]!r} is no whole number from 0")
    return int(number)


# --- comparing ------------------------------------------------------------------------------

MATCH, WITHIN, DIFFERS, ONLY_OURS, ONLY_THEIRS = "match", "within", "differs", "ours", "theirs"


class Line(NamedTuple):
    """One model on one day."""

    day: date
    model: str
    ours: Ours
    theirs: Amounts
    verdict: str
    """`match`: to the micro-dollar; `within` the tolerance; `differs`; `ours`, `theirs`: only one
    side has it."""
    reasons: tuple[str, ...]
    """What may be behind a difference, as far as our accounts tell."""

    @property
    def difference_micro(self) -> int:
        """Theirs less ours: above 0 where they ask for more than we counted."""
        return self.theirs.micro - self.ours.micro

    @property
    def difference_percent(self) -> Decimal | None:
        """Of ours, two digits; None of nothing."""
        return percent(self.difference_micro, self.ours.micro)

    @property
    def is_fine(self) -> bool:
        return self.verdict in (MATCH, WITHIN)


class Reconciliation(NamedTuple):
    """All of it."""

    lines: tuple[Line, ...]
    ours: Ours
    theirs: Amounts
    bad: tuple[BadLine, ...]
    bad_count: int

    @property
    def difference_micro(self) -> int:
        return self.theirs.micro - self.ours.micro

    @property
    def status(self) -> int:
        """0: everything within the tolerance; 1: something differs; 2: rows could not be read."""
        if self.bad_count:
            return 2
        return 0 if all(line.is_fine for line in self.lines) else 1


def percent(part: int, whole: int) -> Decimal | None:
    """Two digits after the point, half up."""
    if whole == 0:
        return None
    return (Decimal(part) * 100 / Decimal(whole)).quantize(Decimal("0.01"), ROUND_HALF_UP)


def compare(
    invoice: Invoice,
    ours: Mapping[Key, Ours],
    *,
    tolerance_percent: Decimal = Decimal(0),
    tolerance_micro: int = 0,
    rename: Mapping[str, str] | None = None,
) -> Reconciliation:
    """Put both sides next to each other.

    A model of the invoice is ours of the same name, the one that `rename` says, or the only one
    that is the same but for the date at its end.

    Args:
        tolerance_percent: of ours; a difference within it, or within `tolerance_micro`, is fine.
        rename: a model of the invoice to ours.
    """
    theirs: dict[Key, Amounts] = {}
    models = {model for _, model in ours}
    for (day, model), amounts in invoice.lines.items():
        name = _model(model, models, rename or {})
        theirs.setdefault((day, name), Amounts()).add(amounts)
    lines = []
    for day, model in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get((day, model)), theirs.get((day, model))
        verdict = _verdict(mine, other, tolerance_percent, tolerance_micro)
        if verdict in (ONLY_OURS, ONLY_THEIRS):
            alone = mine if mine is not None else other
            if alone is not None and abs(alone.micro) <= tolerance_micro and not _unpriced(mine):
                verdict = MATCH if alone.micro == 0 else WITHIN
        reasons = () if verdict == MATCH else tuple(_reasons(mine, other))
        lines.append(Line(day, model, mine or Ours(), other or Amounts(), verdict, reasons))
    all_ours, all_theirs = Ours(), Amounts()
    for line in lines:
        all_ours.add(line.ours)
        all_theirs.add(line.theirs)
        all_ours.upper_micro += line.ours.upper_micro
        all_ours.estimated += line.ours.estimated
        all_ours.unpriced += line.ours.unpriced
    bad = tuple(invoice.bad)
    return Reconciliation(tuple(lines), all_ours, all_theirs, bad, invoice.bad_count)


def _model(model: str, models: set[str], rename: Mapping[str, str]) -> str:
    if model in rename:
        return rename[model]
    if model in models:
        return model
    bare = _DATED.sub("", model)
    alike = [one for one in models if _DATED.sub("", one) == bare]
    return alike[0] if len(alike) == 1 else model


def _verdict(
    ours: Ours | None, theirs: Amounts | None, tolerance_percent: Decimal, tolerance_micro: int
) -> str:
    if ours is None:
        return ONLY_THEIRS
    if theirs is None:
        return ONLY_OURS
    difference = abs(theirs.micro - ours.micro)
    if difference == 0:
        return MATCH
    allowed = Decimal(abs(ours.micro)) * tolerance_percent / 100
    return WITHIN if difference <= max(allowed, Decimal(tolerance_micro)) else DIFFERS


def _unpriced(ours: Ours | None) -> bool:
    return ours is not None and ours.unpriced > 0


def _reasons(ours: Ours | None, theirs: Amounts | None) -> Iterator[str]:
    if ours is None:
        yield "our accounts have nothing of it: another key, another relay, or another name"
        return
    if ours.unpriced:
        yield f"{ours.unpriced} attempts have no price here"
    if theirs is None:
        if ours.micro or not ours.unpriced:
            yield "the invoice does not have it"
    elif ours.estimated:
        low, high = ours.micro, ours.upper_micro
        fits = low <= theirs.micro <= high
        yield (
            f"{ours.estimated} attempts are estimates, from {low} likely to {high} at most:"
            f" the invoice is {'within' if fits else 'outside of'} that"
        )
    difference = abs((theirs.micro if theirs is not None else 0) - ours.micro)
    if 0 < difference <= ours.edge_micro:
        yield f"{ours.edge_micro} are from within an hour of midnight: another zone's day has them"
    if theirs is not None:
        yield from _counts(ours, theirs)


def _counts(ours: Ours, theirs: Amounts) -> Iterator[str]:
    same = 0
    for name in _COUNTED:
        words = name.replace("_", " ")
        mine, other = getattr(ours, name), getattr(theirs, name)
        if mine is None or other is None:
            continue
        if mine != other:
            yield f"{words}: {other} there, {mine} here"
        else:
            same += name in ("input_tokens", "uncached_tokens", "output_tokens")
    if same == 2 and not ours.unpriced:
        yield "the same tokens at another price"
