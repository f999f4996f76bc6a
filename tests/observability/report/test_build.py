"""A report out of generations, and what its pages say."""

from __future__ import annotations

import re
import tracemalloc
from datetime import date
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import orjson
import pytest

from relay.observability.report import build
from relay.observability.report.blocks import Block, Grid, Heading, Items, Plot, Series, Words
from relay.observability.report.build import Builder, By, Report, Settings
from relay.observability.report.data import as_data
from relay.observability.report.html import html
from relay.observability.report.markdown import markdown
from relay.observability.report.objectives import Objective
from relay.observability.report.page import page, title
from relay.observability.report.rows import Generation, SourceNotes
from relay.observability.report.svg import scale, svg_of
from tests.fakes.report_rows import (
    DAY_US,
    HOUR_US,
    MONDAY_US,
    WEEK_US,
    generation,
    hedged,
    tried,
    weeks,
)

VOICE = Objective("voice", 99.0, 1000.0)


def made(
    *given: Generation,
    by: By = "",
    objectives: tuple[Objective, ...] = (VOICE,),
    since_us: int | None = MONDAY_US,
    until_us: int = MONDAY_US + 2 * WEEK_US,
    notes: SourceNotes | None = None,
    **settings: Any,
) -> Report:
    builder = Builder(Settings(objectives=objectives, by=by, **settings))
    for one in given:
        builder.add(one)
    return builder.done(since_us, until_us, notes or SourceNotes())


@pytest.fixture(scope="module")
def month() -> Report:
    return made(*weeks(6000), by="alias", until_us=MONDAY_US + 4 * WEEK_US, dead_air_ms=900.0)


def test_parts_add_up_to_the_whole(month: Report) -> None:
    whole = month.whole
    assert whole.totals.generations == 6000
    for parts in ([part for _, part in month.weeks], list(month.groups)):
        for name in ("generations", "failed", "left", "cost_micro"):
            assert sum(getattr(part.totals, name) for part in parts) == getattr(whole.totals, name)
        for name in ("counted", "dead", "dead_us", "unrated"):
            assert sum(getattr(part.bought, name) for part in parts) == getattr(whole.bought, name)
        assert sum(part.totals.ttft.known for part in parts) == whole.totals.ttft.known
        assert sum(part.totals.bad["voice"] for part in parts) == month.kept[0].bad
    saved = sum(part.bought.saved_us for _, part in month.weeks)
    assert saved == pytest.approx(whole.bought.saved_us)
    assert whole.bought.dead_before > whole.bought.dead
    assert sum(score.attempts for _, score in month.providers) == sum(
        score.attempts for _, score in month.targets
    )
    assert [name for name, _ in month.providers] == ["a", "b"]


def test_the_slow_week_shows(month: Report) -> None:
    shares = [part.totals.bad["voice"] / part.totals.generations for _, part in month.weeks]
    assert max(shares) == shares[1]
    page_burn = month.kept[0].burns[1]
    assert page_burn.worst_at_us is not None
    slow_us = MONDAY_US + WEEK_US + 2 * DAY_US
    assert slow_us < page_burn.worst_at_us < slow_us + 12 * HOUR_US


def test_weeks_are_those_of_the_zone() -> None:
    sunday = generation(tried(), received_us=MONDAY_US - HOUR_US)
    assert [week for week, _ in made(sunday).weeks] == [date(2026, 9, 21)]
    berlin = made(sunday, where=ZoneInfo("Europe/Berlin"))
    assert [week for week, _ in berlin.weeks] == [date(2026, 9, 28)]
    assert [day for day, _ in berlin.days] == [date(2026, 9, 28)]


def test_days_without_anything_are_gaps_and_not_left_out() -> None:
    days = [generation(tried(), received_us=MONDAY_US + n * DAY_US) for n in (0, 3, 16)]
    found = made(*days, until_us=MONDAY_US + 3 * WEEK_US)
    assert [totals.generations for _, totals in found.days] == [1, 0, 0, 1, *[0] * 12, 1]
    assert [part.totals.generations for _, part in found.weeks] == [2, 0, 1]
    (plot,) = [one for one in page(found) if isinstance(one, Plot) and one.title.startswith("Time")]
    assert plot.series[0].values[1] is None
    stray = made(generation(tried(), received_us=0), *days)
    assert len(stray.days) == 4


def test_what_lies_before_the_first_generation_is_not_judged() -> None:
    """A store that was begun last week has no good year behind it, and takes no longer to read."""
    rows = [generation(tried(), received_us=MONDAY_US + n * 30_000_000) for n in range(200)]
    found = made(*rows, since_us=0, until_us=MONDAY_US + 100 * 60_000_000)
    assert found.kept[0].burns[0].judged_min == 41


def test_groups_and_targets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MAX_GROUPS", 3)
    monkeypatch.setattr(build, "MAX_TARGETS", 2)
    found = made(
        *(generation(tried(f"p/m{n}"), team=f"team_{n}") for n in range(6)),
        by="team",
        notes=SourceNotes(names={"team_0": "voice (team_0)"}),
    )
    assert [part.name for part in found.groups] == [
        "(others)", "voice (team_0)", "team_1", "team_2"
    ]  # fmt: skip
    assert [name for name, _ in found.targets] == ["p/(others)", "p/m0", "p/m1"]


def test_one_that_stands_for_several_counts_as_they_would() -> None:
    rows = list(weeks(300))
    several = made(*(row._replace(times=3) for row in rows), by="alias")
    alike = made(*(row for row in rows for _ in range(3)), by="alias")
    assert as_data(several) == as_data(alike)


def test_nothing_is_said_of_nothing() -> None:
    found = made()
    text = markdown(page(found))
    assert "There is no generation in this range." in text
    assert found.kept[0].share is None
    assert orjson.dumps(as_data(found))


def test_what_is_missing_is_said() -> None:
    few = made(
        generation(tried(cost_micro=None), received_us=MONDAY_US + 3 * DAY_US),
        hedged(9_000_000, 700_000, 600_000, received_us=MONDAY_US + 3 * DAY_US),
        generation(tried(outcome="abandoned"), reason="ABANDONED", received_us=MONDAY_US),
        since_us=MONDAY_US - 2 * DAY_US,
        notes=SourceNotes(open=3, unreadable=2, has_teams=False, sampled=1, stand_for=10),
    )
    text = re.sub(r"\\(.)", r"\1", markdown(page(few)))
    for words in (
        "There is nothing before 2026-09-28 00:00",
        "There is nothing after 2026-10-01",
        "3 generations are not over",
        "2 lines of the log could not be read",
        "From a log",
        "1 lines of a sampled log stand for 10 generations",
        "1 generations ended with their worker",
        "1 attempts have no price",
        "under 100 a p99 is a guess",
        "voice: windows of 1 h, 6 h, 3 d are not judged",
        "Of 1 hedges that answered nobody can say what they saved",
        "at least $",
        "~100 ms",
    ):
        assert words in text, words


def test_without_an_objective_it_says_how_to_set_one() -> None:
    text = markdown(page(made(generation(tried()), objectives=())))
    assert "No objective is set" in text


def test_data_is_json_and_holds_the_same(month: Report) -> None:
    data = orjson.loads(orjson.dumps(as_data(month)))
    assert data["all"]["generations"] == 6000
    assert data["all"]["hedges"]["won"] == month.whole.totals.waits.hedge_won > 0
    assert data["objectives"][0]["windows"][0]["burn"] == 14.4
    assert data["providers"]["a"]["availability"]["low"] < 1
    assert data["weeks"][0]["week"] == "2026-09-28"
    assert set(data["groups"]) == {"fast", "smart"}


# --- pages ----------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags that are closed as they were opened, and all that could load something."""

    VOID = ("meta", "line", "rect", "circle", "polyline", "br")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "onload")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(month: Report) -> None:
    text = html(title(month), page(month))
    found = Page(text)
    assert found.open == []
    assert found.loads == []
    assert {"svg", "table", "main", "h1"} <= found.tags
    assert not {"script", "link", "img", "iframe"} & found.tags
    assert "url(" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert ElementTree.fromstring(svg).get("aria-label")


def test_names_are_nothing_but_names() -> None:
    evil = "<script>|`*x*\x1b[31m"
    one = generation(tried(f"{evil}/m"), alias=evil)
    blocks = page(made(one, by="alias"))
    text = html("t", blocks)
    assert "<script" not in text
    assert "\x1b" not in text
    lines = markdown(blocks)
    assert "\x1b" not in lines
    row = next(line for line in lines.splitlines() if line.startswith("| \\<script"))
    assert re.sub(r"\\.", "", row).count("|") == 13


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("p50 ~1,271 ms, p95 ~2 ms", "p50 ~1,271 ms, p95 ~2 ms"),
        ("team_1, __x__", "team_1, \\_\\_x\\_\\_"),
        ("p99 > 3 ms #1", "p99 > 3 ms #1"),
        ("> a", "\\> a"),
        ("# a", "\\# a"),
        ("~~~ ~a~ 1~2", "\\~\\~\\~ \\~a\\~ 1\\~2"),
    ],
)
def test_markdown_escapes_what_means_something(text: str, shown: str) -> None:
    assert markdown([Words(text)]) == f"{shown}\n"


def test_a_plot_of_one_value_names_it_once() -> None:
    plot = Plot("P", "ms", ["05-04"], [Series("s", [132.642])])
    assert markdown([plot]) == "P (ms), 05-04:\n\n```text\ns  █  132.642\n```\n"


def test_what_was_refused_for_what_was_asked_is_no_failure() -> None:
    found = made(
        generation(tried()), generation(reason="UNKNOWN_MODEL"), generation(reason="OVERLOADED")
    )
    totals = found.whole.totals
    assert (totals.generations, totals.failed, totals.refused) == (3, 1, 1)
    assert "3 generations: 1 failed, 1 were refused for what was asked" in markdown(page(found))


def test_no_backticks_and_wide_tables_on_paper() -> None:
    text = html("t", page(made(generation(tried()), objectives=())))
    assert "`" not in text
    screen, _, paper = text.partition("@media print")
    assert ".wide { overflow-x: auto;" in screen
    assert ".wide { overflow: visible; }" in paper


def test_markdown() -> None:
    blocks: list[Block] = [
        Heading("A", 1),
        Words("x|y"),
        Items(["a", "b"]),
        Grid(("n", "v"), [("x", "1")]),
        Plot("P", "ms", ["1", "2", "3"], [Series("s", [0.0, None, 8.0])]),
    ]
    assert markdown(blocks) == (
        "# A\n\nx\\|y\n\n- a\n- b\n\n| n | v |\n| --- | ---: |\n| x | 1 |\n\n"
        "P (ms), 1 to 3:\n\n```text\ns  ▁ █  0 to 8, last 8\n```\n"
    )


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.0, 0.0, [0, 0.25, 0.5, 0.75, 1.0]),
        (0.0, 7.0, [0, 2, 4, 6, 8]),
        (-42.0, 97.0, [-50, 0, 50, 100]),
        (0.0, 0.0013, [0, 0.0005, 0.001, 0.0015]),
        (0.0, float("inf"), [0, 0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_axes(low: float, high: float, ticks: list[float]) -> None:
    top, found = scale(low, high)
    assert found == pytest.approx(ticks)
    assert top == pytest.approx(ticks[-1])


@pytest.mark.parametrize("kind", ["lines", "bars"])
def test_plots_leave_out_what_is_not_known(kind: Any) -> None:
    gap = Plot("P", "ms", ["a", "b", "c", "d"], [Series("s", [1.0, 2.0, None, 4.0])], kind)
    root = ElementTree.fromstring(svg_of(gap))
    shapes = [each.tag for each in root if each.tag in ("polyline", "circle", "rect")]
    assert shapes == (["polyline", "circle"] if kind == "lines" else ["rect"] * 3)
    label = root.get("aria-label") or ""
    assert "a 1, b 2, d 4" in label
    nothing = ElementTree.fromstring(svg_of(Plot("P", "ms", [], [Series("s", [])], kind)))
    assert "nothing is known" in (nothing.get("aria-label") or "")


def test_memory_does_not_grow_with_generations() -> None:
    def peak(count: int) -> int:
        builder = Builder(Settings(objectives=(VOICE,), by="team"))
        tracemalloc.start()
        for one in weeks(count):
            builder.add(one)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(8000) < 3 * peak(1000)
