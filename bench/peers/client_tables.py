"""What h2load measured, as Markdown: requests a second, and what the generator in Python adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bench.peers.cells import NONE, Column, Row, axis_title, has, number, of, table

_WHERE = {
    "direct": ("direct", "straight at the emulator"),
    "nginx": ("nginx", "to nginx"),
    "generate": ("rtrelay, gRPC Generate", "over gRPC to the relay"),
}
"""By arm: in the table, and in a sentence."""


def capacity(result: Mapping[str, Any]) -> str:
    """The closed loop: a table, and what is to be known of it."""
    case = result["cases"].get("capacity")
    if case is None:
        return ""
    rows: Mapping[str, Row] = case["rows"]
    if not rows:
        return ""
    columns: list[Column] = []
    for part, title, show in (
        ("whole_16", "whole answers a second, 16 at once", _rate("answers_per_s")),
        ("whole_64", "64 at once", _rate("answers_per_s")),
        ("whole_64", "CPU of one", _cpu),
        ("stream_64", "streamed tokens a second, 64 at once", _rate("tokens_per_s")),
        ("stream_128", "128 at once", _rate("tokens_per_s")),
        ("stream_128", "CPU of a token", _cpu),
        ("stream_64", "answer later by, 64 at once, p50 / p99", _later),
    ):
        if has(rows, part):
            columns.append((title, of(rows, part, show)))
    arms = [name for name in result["arms"] if name in case["axes"]["arms"]]
    stream = case["axes"]["stream"]
    text = (
        f"By {case['axes']['client']} in a closed loop, {_rounds(case['axes']['rounds'])}; in"
        " brackets the gateway's share of a core: well below one it was not the limit, but emulator"
        f" or machine, or it carried all that was asked. Streams are of {stream['tokens']} tokens"
        f" {stream['itl_ms']:g} ms apart and begin together: so their tokens come together, which"
        " is cheaper than in the open loop. h2load cannot ask a session (Converse), and gRPC"
        " Generate has no whole answers."
    )
    lines = [text, "", table(result, arms, columns)]
    if case["notes"]:
        lines += ["", *(f"- {note}" for note in case["notes"])]
    return "\n".join(lines)


def _rounds(rounds: int) -> str:
    return "one round" if rounds == 1 else f"medians of {rounds} rounds"


def _rate(figure: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        text = number(row.get(figure))
        share = row.get("hop_core_%")
        if text and share is not None:
            text += f" ({share:.0f} %)"
        if row.get("bad"):
            text += f", {int(row['bad'] or 0)} bad"
        return text

    return show


def _cpu(row: Row) -> str:
    text = number(row.get("hop_us"))
    return f"{text} us" if text else NONE


def _later(row: Row) -> str:
    pair = [number(row.get(f"answer_{share}_ms")) for share in ("p50", "p99")]
    return f"{pair[0]} / {pair[1]} ms" if all(pair) else NONE


def calibration(result: Mapping[str, Any]) -> str:
    """What Python adds, and up to which rate it may be used."""
    case = result["cases"].get("client")
    if case is None:
        return ""
    rows: Mapping[str, Row] = case["rows"]
    lines = [
        "**The generator.** The same load by the generator in Python and by h2load"
        f" {result['versions'].get('h2load', '')}, open loop,"
        f" {_rounds(case['axes']['rounds'])}. Answer: from sending to its last"
        " byte, beyond what the provider takes; it is all that h2load can tell. What Python adds"
        " is in every figure of every arm, and in the direct one that is taken off.",
        "",
        "| | tokens/s | Python: CPU of a token, core | h2load | Python: answer p50 / p99"
        " | h2load | Python adds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        line
        for where in _WHERE
        for axis in case["axes"]["axes"]
        if (line := _rung(rows, where, f"{axis['streams']}x{axis['per_second']}"))
    ]
    lines.append("")
    limit = case["axes"]["limit_core_%"]
    for where in _WHERE:
        row = rows.get(f"{where}/limit")
        if row is not None:
            lines.append(f"- {_limit(row, where, limit, case['axes']['ended'].get(where, ''))}")
    lines += [f"- {note}" for note in case["notes"]]
    return "\n".join(lines)


def _rung(rows: Mapping[str, Row], where: str, axis: str) -> str:
    python, c = rows.get(f"{where}/{axis}/python"), rows.get(f"{where}/{axis}/h2load")
    if python is None:
        return ""
    cells = [
        f"{_WHERE[where][0]}, {axis_title(axis)}",
        number(python["tokens_per_s"]),
        _cost(python),
        _cost(c),
        _later(python),
        _later(c) if c is not None else NONE,
        _added(rows.get(f"{where}/{axis}/added")),
    ]
    return f"| {' | '.join(cells)} |"


def _cost(row: Row | None) -> str:
    if row is None:
        return NONE
    text = f"{number(row['load_us'])} us, {row['load_core_%'] or 0.0:.0f} %"
    share = row["sent_share"]
    if share is not None and share < 0.97:
        text += f", sent only {100 * share:.0f} %"
    return text


def _added(row: Row | None) -> str:
    if row is None:
        return NONE
    return f"{_later(row)}, {number(row['load_us'])} us"


def _limit(row: Row, where: str, limit: float, ended: str) -> str:
    rate = number(row["tokens_per_s"])
    to = _WHERE[where][1]
    if row["is_reached"]:
        return f"{to}, Python uses {limit:.0f} % of a core at {rate} tokens a second."
    text = f"{to}, Python is below {limit:.0f} % of a core up to {rate} tokens a second"
    return f"{text}, the most that was tried{f' ({ended})' if ended else ''}."
