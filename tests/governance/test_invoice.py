"""Invoices: read exactly, what cannot be read is named by its line, differences have reasons."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.invoice import (
    PRESETS,
    Amounts,
    Invoice,
    InvoiceError,
    Ours,
    compare,
    mapping_of,
    read_invoice,
)
from tests.fakes.properties import examples

DAY = date(2026, 11, 27)
KEY = (DAY, "gpt")


def read(*lines: str, preset: str = "plain", **named: str) -> Invoice:
    return read_invoice([f"{line}\r\n" for line in lines], mapping_of(preset, named), named=named)


def micro_of(text: str) -> int:
    invoice = read("date,model,amount", f'2026-11-27,gpt,"{text}"')
    assert not invoice.bad, invoice.bad
    return invoice.lines[KEY].micro


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("1", 1_000_000), ("0.1", 100_000), ("$1,234.56", 1_234_560_000), ("-3.5", -3_500_000),
        ("(3.50)", -3_500_000), ("1e-6", 1), ("0.0000005", 1), ("12.5 USD", 12_500_000),
        ("123456789.123456", 123_456_789_123_456),
    ],
)  # fmt: skip
def test_amounts_are_exact(text: str, micro: int) -> None:
    assert micro_of(text) == micro


@examples(100)
@given(st.integers(-(10**15), 10**15))
def test_every_amount_of_micro_dollars_is_read_back(micro: int) -> None:
    assert micro_of(f"{Decimal(micro).scaleb(-6):f}") == micro


@pytest.mark.parametrize("text", ["12,50", "1.234,56", "0,003", "1,23,456", ",5", "1,2345"])
def test_a_comma_that_does_not_part_thousands_is_not_guessed_at(text: str) -> None:
    found = read("date,model,amount,requests", f'2026-11-27,gpt,"{text}",1')
    assert (found.bad_count, found.lines) == (1, {})
    found = read("date,model,amount,requests", f'2026-11-27,gpt,1,"{text}"')
    assert (found.bad_count, found.lines) == (1, {})


def test_rows_of_one_day_and_model_are_added_up() -> None:
    invoice = read(
        "\ufeffAmount, Date ,model,note,input_tokens",
        '0.5,2026-11-27,gpt,"a, ""b""","1,000"',
        "0.25,2026-11-27T23:59:00,gpt,,5",
        "",
        "1,2026-11-28,gpt,,",
    )
    assert invoice.lines == {
        KEY: Amounts(750_000, input_tokens=1005),
        (date(2026, 11, 28), "gpt"): Amounts(1_000_000),
    }
    assert (invoice.rows, invoice.bad_count) == (3, 0)


@pytest.mark.parametrize(
    ("text", "zone", "day"),
    [
        ("2026-11-27", "Asia/Tokyo", 27), ("2026-11-27T20:00:00Z", "Asia/Tokyo", 28),
        ("2026-11-27T20:00:00+00:00", "UTC", 27), ("1795809600", "UTC", 27),
        ("20261127", "UTC", 27),
    ],
)  # fmt: skip
def test_days(text: str, zone: str, day: int) -> None:
    lines = ["date,model,amount", f"{text},m,1"]
    invoice = read_invoice(lines, mapping_of(), where=ZoneInfo(zone))
    assert [found.day for found, _ in invoice.lines] == [day], invoice.bad


def test_bad_rows_are_named_by_line_and_the_rest_is_read() -> None:
    invoice = read(
        "date,model,amount,requests",
        "2026-11-27,gpt,1,1",
        "yesterday,gpt,1,1",
        "2026-11-27,gpt,NaN,1",
        '2026-11-27,"two',
        'lines",1,1',
        "2026-11-27,gpt,1",
        "2026-11-27,,1,1",
        "2026-11-27,gpt,1,1.5",
        "2026-11-27,gpt,1,-1",
        '2026-11-27,gpt,1,"open',
    )
    assert [bad.line for bad in invoice.bad] == [3, 4, 7, 8, 9, 10, 11]
    words = " ".join(map(str, invoice.bad))
    for word in ("line 3: date", "amount", "3 columns", "model is empty", "requests", "line 11"):
        assert word in words
    assert invoice.lines[KEY] == Amounts(1_000_000, requests=1)
    assert invoice.bad_count == 7


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "header"),
        ([""], "header"),
        (["date,amount"], "'model' for model"),
        (["date,model,amount,Amount"], "2 times"),
    ],
)
def test_headers(lines: list[str], words: str) -> None:
    with pytest.raises(InvoiceError, match=words):
        read(*lines)


def test_mappings() -> None:
    assert mapping_of("openai", {"amount": "total"})["amount"] == "total"
    for preset in PRESETS:
        assert {"date", "model", "amount"} <= mapping_of(preset).keys()
    with pytest.raises(InvoiceError, match="preset"):
        mapping_of("acme")
    with pytest.raises(InvoiceError, match="column"):
        mapping_of("plain", {"colour": "x"})
    with pytest.raises(InvoiceError, match="'wrong' for requests"):
        read("date,model,amount", requests="wrong")


@pytest.mark.parametrize(
    ("theirs", "tolerance_percent", "tolerance_micro", "verdict", "status"),
    [
        (1000, "0", 0, "match", 0),
        (1001, "0", 0, "differs", 1),
        (1001, "0.1", 0, "within", 0),
        (1002, "0.1", 0, "differs", 1),
        (1002, "0.1", 2, "within", 0),
        (998, "0", 2, "within", 0),
        (997, "0", 2, "differs", 1),
    ],
)
def test_tolerance(
    theirs: int, tolerance_percent: str, tolerance_micro: int, verdict: str, status: int
) -> None:
    found = compare(
        Invoice({KEY: Amounts(theirs)}),
        {KEY: Ours(1000)},
        tolerance_percent=Decimal(tolerance_percent),
        tolerance_micro=tolerance_micro,
    )
    assert [line.verdict for line in found.lines] == [verdict]
    assert found.status == status
    assert found.difference_micro == theirs - 1000


def reasons(theirs: Amounts | None, ours: Ours | None) -> str:
    invoice = Invoice({} if theirs is None else {KEY: theirs})
    found = compare(invoice, {} if ours is None else {KEY: ours})
    assert found.status == 1
    return "; ".join(found.lines[0].reasons)


def test_reasons() -> None:
    assert "have nothing of it" in reasons(Amounts(5), None)
    assert "does not have it" in reasons(None, Ours(5))
    assert reasons(Amounts(5), Ours(0, unpriced=3)) == "3 attempts have no price here"
    estimates = Ours(100, upper_micro=300, estimated=2)
    assert "from 100 likely to 300 at most: the invoice is within" in reasons(
        Amounts(300), estimates
    )
    assert "outside of that" in reasons(Amounts(301), estimates)
    assert "midnight" in reasons(Amounts(90), Ours(100, edge_micro=10))
    assert "midnight" not in reasons(Amounts(89), Ours(100, edge_micro=10))
    assert "requests: 3 there, 2 here" in reasons(Amounts(9, requests=3), Ours(8, requests=2))
    same = {"input_tokens": 10, "output_tokens": 5}
    assert reasons(Amounts(9, **same), Ours(8, **same)) == "the same tokens at another price"


def test_what_only_one_side_has_and_costs_nothing_is_fine() -> None:
    assert compare(Invoice(), {KEY: Ours(0, requests=1)}).status == 0
    assert compare(Invoice({KEY: Amounts(0)}), {}).status == 0
    assert compare(Invoice(), {KEY: Ours(0, unpriced=1)}).status == 1


@pytest.mark.parametrize(
    ("theirs", "ours", "is_same"),
    [
        ("gpt-4o-2024-08-06", ("gpt-4o",), True),
        ("claude-x", ("claude-x-20250929",), True),
        ("gpt-4o-2024-08-06", ("gpt-4o-2024-05-13", "gpt-4o-2024-11-20"), False),
        ("gpt", ("gpt-4o",), False),
        ("renamed", ("mine",), True),
    ],
)
def test_models(theirs: str, ours: tuple[str, ...], is_same: bool) -> None:
    found = compare(
        Invoice({(DAY, theirs): Amounts(5)}),
        {(DAY, name): Ours(5) for name in ours},
        rename={"renamed": "mine"},
    )
    assert (found.status == 0) == is_same


def test_totals_and_bad_rows() -> None:
    invoice = read("date,model,amount", "2026-11-27,gpt,0.000005", "x,gpt,1")
    found = compare(invoice, {KEY: Ours(5)})
    assert (found.ours.micro, found.theirs.micro, found.status) == (5, 5, 2)
    assert found.lines[0].difference_percent == Decimal("0.00")
    line = compare(Invoice({KEY: Amounts(4)}), {KEY: Ours(3)}).lines[0]
    assert line.difference_percent == Decimal("33.33")
