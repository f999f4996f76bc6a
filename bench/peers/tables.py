"""The published run as Markdown."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.peers.rig import FULL, QUICK

Row = Mapping[str, float | None]
_Column = tuple[str, Callable[[str], str]]
"""Its title, and what it says of an arm."""

_LATE = "†"
_NONE = ""


def section(result: Mapping[str, Any]) -> str:
    """Everything between README's markers."""
    parts = [
        _head(result),
        _loads(result),
        _rest(result),
        _aims(result),
        _legend(result),
        _who(result),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


# --- what is said before --------------------------------------------------------------------


def _head(result: Mapping[str, Any]) -> str:
    machine, options = result["machine"], result["options"]
    alone = (
        "at real-time priority, so that others on the machine had only what was left"
        if machine["is_realtime"]
        else "at normal priority"
    )
    rounds = options["rounds"]
    of_rounds = "one round" if rounds == 1 else f"medians of {rounds} interleaved rounds"
    return (
        f"`{_command(options)}` at"
        f" {result['commit'][:10]}{' (with changes)' if result['dirty'] else ''},"
        f" {result['started_at'][:10]}, {machine['usable_cores']} cores shared by everything,"
        f" kernel {machine['kernel']}, load {machine['load_average_1m']:.1f} before,"
        f" {alone}; {of_rounds} of {options['window_s']:g} s each, {result['elapsed_s'] / 60:.0f}"
        " minutes in all."
    )


def _command(options: Mapping[str, Any]) -> str:
    """What makes such a run again."""
    usual = QUICK if options["is_quick"] else FULL
    words = ["--quick"] if options["is_quick"] else []
    if options["rounds"] != usual.rounds:
        words.append(f"--rounds {options['rounds']}")
    if list(options["idle_s"]) != list(usual.idle_s):
        words.append("--idle " + " ".join(f"{idle_s:g}" for idle_s in options["idle_s"]))
    if list(options["peers"]) != list(usual.peers):
        words.append("--peers " + " ".join(options["peers"]))
    arguments = " ".join(words)
    quote = '"' if " " in arguments else ""
    return f"make bench-peers ARGS={quote}{arguments}{quote}" if words else "make bench-peers"


# --- tables ---------------------------------------------------------------------------------


_ALL = ("1x100", "16x20", "16x100", "64x100", "256x20")
_MANY = ("16x100", "64x100")


def _loads(result: Mapping[str, Any]) -> str:
    """Latency, then CPU and memory."""
    case = result["cases"].get("load")
    if case is None:
        return ""
    rows = case["rows"]

    def columns(what: str, axes: Sequence[str], show: Callable[[Row], str]) -> list[_Column]:
        return [
            (f"{what}, {_axis(axis)}", _of(rows, axis, show)) for axis in axes if _has(rows, axis)
        ]

    latency = columns("first token", _ALL, _pair("added_ttft"))
    latency += columns("token", _MANY, _pair("added_token"))
    cost = columns("CPU", _ALL[1:], _one("hop_us", " us"))
    cost += columns("over nginx", ("64x100",), _one("over_nginx"))
    cost.append(("memory", lambda arm: _memory(rows, arm)))
    hops = [name for name in result["arms"] if name != "direct"]
    return f"{_table(result, hops, latency)}\n\n{_table(result, hops, cost)}"


def _of(rows: Mapping[str, Row], axis: str, show: Callable[[Row], str]) -> Callable[[str], str]:
    return lambda arm: _cell(rows.get(f"{arm}/{axis}"), show)


def _rest(result: Mapping[str, Any]) -> str:
    cases = result["cases"]
    columns: list[_Column] = []

    def add(title: str, case: str, axis: str, show: Callable[[Row], str]) -> None:
        if case in cases and _has(cases[case]["rows"], axis):
            columns.append((title, _of(cases[case]["rows"], axis, show)))

    add("left while it thinks", "leaving", "thinking", _left)
    add("left while it speaks", "leaving", "speaking", _left)
    for fault in ("reset", "closed", "ended"):
        add(f"breaks: {fault}", "cuts", fault, _break)
    add("prompt of 16 kB, p50", "shapes", "long", _one("added_p50_ms", " ms"))
    add("tool call, p50", "shapes", "tool", _tool)
    for idle_s in cases.get("idle", {}).get("axes", {}).get("idle_s", ()):
        add(f"first after {idle_s:g} s", "idle", f"idle_{idle_s:g}s", _over_warm)
    add("first after a close", "idle", "closed", _over_warm)
    add("first after a GOAWAY", "goaway", "goaway", _over_warm)
    return _table(result, list(result["arms"]), columns) if columns else ""


def _table(
    result: Mapping[str, Any],
    arms: Sequence[str],
    columns: Sequence[_Column],
) -> str:
    lines = [
        "| | " + " | ".join(title for title, _ in columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for arm in arms:
        cells = " | ".join(show(arm) for _, show in columns)
        lines.append(f"| {arm_title(result['arms'][arm])} | {cells} |")
    return "\n".join(lines)


def arm_title(arm: Mapping[str, str]) -> str:
    """Such as `rtrelay, SSE`, `TensorZero`; what is upstream where that is not HTTP/2."""
    title = arm["title"]
    if title == "rtrelay":
        title = f"**{title}**, {arm['down']}"
        if "1.1" in arm["upstream"]:
            title += ", HTTP/1.1 upstream"
    return title


def _aims(result: Mapping[str, Any]) -> str:
    """The relay's own, met or not."""
    targets = result["cases"].get("load", {}).get("targets", ())
    if not targets:
        return ""
    lines = ["| aim | at most | here | |", "|---|---|---|---|"]
    for target in targets:
        name, _, axis = target["row"].partition("/")
        way = result["arms"][name]["down"]
        what = _FIGURES.get(target["figure"]) or _ratio(target["figure"])
        lines.append(
            f"| {way}, {_axis(axis)}: {what} | {_number(target['limit'])} |"
            f" {_number(target['value'])} | {'met' if target['is_met'] else 'missed'} |"
        )
    return "\n".join(lines)


_FIGURES = {
    "added_ttft_p50_ms": "added to the first token, p50, ms",
    "added_ttft_p99_ms": "added to the first token, p99, ms",
    "ttft_over_tensorzero": "added to the first token, over TensorZero's",
    "over_sse": "CPU, over our own SSE",
}


def _ratio(figure: str) -> str:
    return f"CPU, over {figure.removeprefix('over_')}"


# --- cells ----------------------------------------------------------------------------------


def _cell(row: Row | None, show: Callable[[Row], str]) -> str:
    if row is None:
        return _NONE
    text = show(row)
    return f"{text} {_LATE}" if text and row.get("keeps_up") == 0 else text


def _pair(name: str) -> Callable[[Row], str]:
    def show(row: Row) -> str:
        pair = [_number(row.get(f"{name}_{share}_ms")) for share in ("p50", "p99")]
        return f"{pair[0]} / {pair[1]}" if all(pair) else _NONE

    return show


def _one(name: str, unit: str = "") -> Callable[[Row], str]:
    def show(row: Row) -> str:
        text = _number(row.get(name))
        return f"{text}{unit}" if text else _NONE

    return show


def _left(row: Row) -> str:
    left, never = int(row["left"] or 0), int(row["never_stopped"] or 0)
    if never == left:
        return "never stopped"
    text = f"{_number(row['p50_ms'])} / {_number(row['p99_ms'])} ms"
    return f"{text}, {never} of {left} never" if never else text


def _break(row: Row) -> str:
    words = [
        f"{int(row[name] or 0)} {name}"
        for name in ("told", "silent", "lies", "hangs", "refused")
        if row[name]
    ]
    return ", ".join(words)


def _tool(row: Row) -> str:
    text = _number(row.get("added_p50_ms"))
    text = f"{text} ms" if text else "0 ms"
    if row["wrong"]:
        text += f", {int(row['wrong'])} of {int(row['answers'] or 0)} wrong"
    return text


def _over_warm(row: Row) -> str:
    text = _number(row["over_warm_ms"])
    if not text:
        return "failed"
    low, high = _number(row["over_warm_ms_low"]), _number(row["over_warm_ms_high"])
    return f"{text} ms ({low} to {high})"


def _memory(rows: Mapping[str, Row], arm: str) -> str:
    found = [row.get("rss_mib") for key, row in rows.items() if key.startswith(f"{arm}/")]
    known = [value for value in found if value is not None]
    return f"{max(known):.0f} MiB" if known else _NONE


def _number(value: float | None) -> str:
    """Two or three digits; milliseconds below a hundredth are none."""
    if value is None or math.isnan(value):
        return _NONE
    if abs(value) < 0.005:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2f}"


def _has(rows: Mapping[str, Row], axis: str) -> bool:
    return any(key.endswith(f"/{axis}") for key in rows)


def _axis(name: str) -> str:
    streams, _, per_second = name.partition("x")
    return f"{streams} x {per_second}/s"


# --- what is said behind --------------------------------------------------------------------


def _legend(result: Mapping[str, Any]) -> str:
    cases = result["cases"]
    lines = [
        "- *16 x 100/s* is 16 streams of 100 tokens a second each, open loop. *First token* and"
        " *token* are milliseconds added, p50 / p99: receipt minus the provider's stamp (first"
        " token: minus the intended moment), less the same of a warm direct client in the same"
        " round; a difference of percentiles may be below zero. *CPU* is user and system time of"
        " the whole process tree for one delivered token, requests and all.",
        "- *Left*: from the client leaving to the provider's notice that its stream was given"
        " up, p50 / p99, while it thinks and while it speaks. *Breaks*: the provider's answer is"
        " reset, closed, or just ends early; *told* is an error or a broken transport, *silent*"
        " a clean end without finish reason or `[DONE]`, a *lie* a good end. *First after*: over"
        " a warm question; after a close or a GOAWAY the provider had left the idle connection.",
    ]
    if "load" in cases:
        rows = cases["load"]["rows"]
        busiest = max((row["load_core_%"] or 0.0 for row in rows.values()), default=0.0)
        lines.append(
            f"- The load generator is Python and used at most {busiest:.0f} % of a core, the same"
            " for all; it never is the limit below 80 %."
        )
        late = list(cases["load"]["notes"])
        if late:
            lines.append(f"- {_LATE} does not keep up; it is not asked for more:")
            lines += [f"    - {note}" for note in late]
    for name, why in result["skipped"].items():
        lines.append(f"- {name} was left out: {why.splitlines()[0]}")
    for case in ("shapes", "leaving"):
        lines += [f"- {note}" for note in cases.get(case, {}).get("notes", ())]
    return "\n".join(lines)


def _who(result: Mapping[str, Any]) -> str:
    lines = ["| | version | written in | to the provider | settings |", "|---|---|---|---|---|"]
    seen: set[str] = set()
    for arm in result["arms"].values():
        if not arm["settings"] or arm["title"] in seen:
            continue
        seen.add(arm["title"])
        lines.append(
            f"| {arm['title']} | {arm['version']} | {arm['written_in']} | {arm['upstream']} |"
            f" {arm['settings']} |"
        )
    return "\n".join(lines)
