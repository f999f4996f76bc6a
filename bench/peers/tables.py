"""The published run as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.peers import client_tables, kept
from bench.peers.cases.all import CASES
from bench.peers.cells import (
    LATE,
    NONE,
    Column,
    Row,
    axis_title,
    has,
    number,
    of,
    one,
    pair,
    table,
)
from bench.peers.rig import FULL, QUICK


def section(result: Mapping[str, Any]) -> str:
    """Everything between README's markers."""
    parts = [
        _head(result),
        _loads(result),
        client_tables.capacity(result),
        _rest(result),
        _aims(result),
        _legend(result),
        client_tables.calibration(result),
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
        f"`{_command(options, result.get('wanted', ()))}` at"
        f" {result['commit'][:10]}{' (with changes)' if result['dirty'] else ''},"
        f" {result['started_at'][:10]}, {machine['usable_cores']} cores shared by everything,"
        f" kernel {machine['kernel']}, load {machine['load_average_1m']:.1f} before,"
        f" {alone}; {of_rounds} of {options['window_s']:g} s each, {result['elapsed_s'] / 60:.0f}"
        f" minutes in all.{_reservations(result)}"
    )


def _reservations(result: Mapping[str, Any]) -> str:
    """What a reader has to know of how it was run; nothing of files that have it not."""
    text = f" Processes: {result['pinning']}." if "pinning" in result else ""
    sittings = len(result.get("sittings", ()))
    if sittings > 1:
        text += f" It was interrupted and taken up again: {sittings} sittings."
    missing = kept.unfinished(result)
    if missing:
        text += f" **Interrupted: without all of {', '.join(missing)}.**"
    return text


def _command(options: Mapping[str, Any], wanted: Sequence[str]) -> str:
    """What makes such a run again."""
    usual = QUICK if options["is_quick"] else FULL
    words = [] if set(wanted) in (set(), set(CASES)) else list(wanted)
    words += ["--quick"] if options["is_quick"] else []
    if options["rounds"] != usual.rounds:
        words.append(f"--rounds {options['rounds']}")
    if list(options["idle_s"]) != list(usual.idle_s):
        words.append("--idle " + " ".join(f"{idle_s:g}" for idle_s in options["idle_s"]))
    if list(options["peers"]) != list(usual.peers):
        words.append("--peers " + " ".join(options["peers"]))
    # Before there was the option nobody was pinned.
    is_pinned = bool(options.get("is_pinned"))
    if is_pinned != usual.is_pinned:
        words.append("--pin" if is_pinned else "--no-pin")
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

    def columns(what: str, axes: Sequence[str], show: Callable[[Row], str]) -> list[Column]:
        return [
            (f"{what}, {axis_title(axis)}", of(rows, axis, show))
            for axis in axes
            if has(rows, axis)
        ]

    latency = columns("first token", _ALL, pair("added_ttft"))
    latency += columns("token", _MANY, pair("added_token"))
    cost = columns("CPU", _ALL[1:], one("hop_us", " us"))
    cost += columns("over nginx", ("64x100",), one("over_nginx"))
    cost.append(("memory", lambda arm: _memory(rows, arm)))
    hops = [name for name in result["arms"] if name != "direct"]
    return f"{table(result, hops, latency)}\n\n{table(result, hops, cost)}"


def _rest(result: Mapping[str, Any]) -> str:
    cases = result["cases"]
    columns: list[Column] = []

    def add(title: str, case: str, axis: str, show: Callable[[Row], str]) -> None:
        if case in cases and has(cases[case]["rows"], axis):
            columns.append((title, of(cases[case]["rows"], axis, show)))

    add("left while it thinks", "leaving", "thinking", _left)
    add("left while it speaks", "leaving", "speaking", _left)
    for fault in ("reset", "closed", "ended"):
        add(f"breaks: {fault}", "cuts", fault, _break)
    add("prompt of 16 kB, p50", "shapes", "long", one("added_p50_ms", " ms"))
    add("tool call, p50", "shapes", "tool", _tool)
    for idle_s in cases.get("idle", {}).get("axes", {}).get("idle_s", ()):
        add(f"first after {idle_s:g} s", "idle", f"idle_{idle_s:g}s", _over_warm)
        kind = f"goaway_idle_{idle_s:g}s"
        add(f"first after {idle_s:g} s and a GOAWAY", "idle", kind, _over_warm)
    add("first after a close", "idle", "closed", _over_warm)
    add("first after a GOAWAY", "goaway", "goaway", _over_warm)
    return table(result, list(result["arms"]), columns) if columns else ""


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
            f"| {way}, {axis_title(axis)}: {what} | {number(target['limit'])} |"
            f" {number(target['value'])} | {'met' if target['is_met'] else 'missed'} |"
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


def _left(row: Row) -> str:
    left, never = int(row["left"] or 0), int(row["never_stopped"] or 0)
    if never == left:
        return "never stopped"
    text = f"{number(row['p50_ms'])} / {number(row['p99_ms'])} ms"
    return f"{text}, {never} of {left} never" if never else text


def _break(row: Row) -> str:
    words = [
        f"{int(row[name] or 0)} {name}"
        for name in ("told", "silent", "lies", "hangs", "refused")
        if row[name]
    ]
    return ", ".join(words)


def _tool(row: Row) -> str:
    text = number(row.get("added_p50_ms"))
    text = f"{text} ms" if text else "0 ms"
    if row["wrong"]:
        text += f", {int(row['wrong'])} of {int(row['answers'] or 0)} wrong"
    return text


def _over_warm(row: Row) -> str:
    text = number(row["over_warm_ms"])
    if not text:
        return "failed"
    low, high = number(row["over_warm_ms_low"]), number(row["over_warm_ms_high"])
    return f"{text} ms ({low} to {high})"


def _memory(rows: Mapping[str, Row], arm: str) -> str:
    found = [row.get("rss_mib") for key, row in rows.items() if key.startswith(f"{arm}/")]
    known = [value for value in found if value is not None]
    return f"{max(known):.0f} MiB" if known else NONE


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
        if result.get("are_ends_together"):
            both = max(
                (row["load_core_%"] or 0.0) + (row["emulator_core_%"] or 0.0)
                for row in rows.values()
            )
            lines.append(f"- Emulator and generator together used at most {both:.0f} % of theirs.")
        late = list(cases["load"]["notes"])
        if late:
            lines.append(f"- {LATE} does not keep up; it is not asked for more:")
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
