"""README's comparison follows from the run that is kept in git, and from nothing else."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from bench.peers import pictures, published, tables
from bench.peers.rig import QUICK
from bench.stats import Histogram


def arm(title: str, down: str = "SSE", upstream: str = "TLS, HTTP/2") -> dict[str, str]:
    return {
        "title": title,
        "down": down,
        "upstream": upstream,
        "version": "1.0" if title != "rtrelay" else "",
        "written_in": "Go",
        "settings": "none" if title not in ("rtrelay", "direct") else "",
    }


def loaded(hop_us: float, **more: float) -> dict[str, float | None]:
    latencies = {
        f"added_{figure}_{share}_ms": 0.25
        for figure in ("ttft", "token")
        for share in ("p50", "p99")
    }
    row: dict[str, float | None] = {"keeps_up": 1.0, "hop_us": hop_us, "rss_mib": 20.0}
    return {**row, **latencies, "over_nginx": hop_us / 10, "load_core_%": 31.0, **more}


@pytest.fixture
def result() -> dict[str, Any]:
    histogram = Histogram()
    for k in range(1, 1001):
        histogram.add(20_000.0 + k)
    left = {"left": 8, "never_stopped": 0, "p50_ms": 1.0, "p99_ms": 2.5, "max_ms": 2.5}
    broken = {"told": 0, "silent": 0, "lies": 0, "hangs": 0, "refused": 0}
    load_rows = {
        f"{name}/{axis}": loaded(us)
        for name, us in (("sse", 30.0), ("nginx", 10.0), ("slow", 900.0))
        for axis in ("16x100", "64x100")
    }
    load_rows["slow/16x100"]["keeps_up"] = 0.0
    del load_rows["slow/64x100"]
    return {
        "commit": "0123456789abcdef",
        "dirty": False,
        "started_at": "2026-11-27T08:00:00Z",
        "elapsed_s": 240.0,
        "machine": {
            "usable_cores": 2,
            "kernel": "6.18",
            "is_realtime": True,
            "load_average_1m": 0.5,
        },
        "options": QUICK._replace(rounds=3)._asdict(),
        "arms": {
            "direct": arm("direct"),
            "sse": arm("rtrelay"),
            "sse_h1": arm("rtrelay", upstream="TLS, HTTP/1.1"),
            "nginx": arm("nginx, a plain hop"),
            "slow": arm("Slow"),
        },
        "skipped": {"absent": "did not start\nat all"},
        "cases": {
            "load": {
                "rows": load_rows,
                "targets": [
                    {
                        "row": "sse/64x100",
                        "figure": "over_nginx",
                        "limit": 3.0,
                        "value": 3.25,
                        "is_met": False,
                    }
                ],
                "notes": ["slow does not keep up with 16x100: because"],
                "histograms": {
                    f"{name}/{axis}/{figure}": histogram.to_dict()
                    for name in ("direct", "sse", "nginx")
                    for axis, figure in (("16x100", "ttft"), ("64x100", "token"))
                },
            },
            "leaving": {
                "rows": {
                    "sse/thinking": left,
                    "slow/thinking": {**left, "never_stopped": 8, "p50_ms": None},
                    "nginx/thinking": {**left, "never_stopped": 3},
                },
                "notes": [],
                "histograms": {},
            },
            "cuts": {
                "rows": {
                    "sse/reset": {**broken, "told": 3},
                    "slow/reset": {**broken, "told": 1, "lies": 2},
                },
                "notes": [],
                "histograms": {},
            },
        },
    }


def row_of(section: str, title: str, table: int = 0) -> str:
    return [line for line in section.splitlines() if line.startswith(f"| {title} ")][table]


def test_the_section_tells_what_was_measured(result: dict[str, Any]) -> None:
    section = tables.section(published.compact(result))
    assert '`make bench-peers ARGS="--quick --rounds 3"` at 0123456789,' in section
    assert "real-time priority" in section
    ours = row_of(section, "**rtrelay**, SSE")
    assert "0.25 / 0.25" in ours
    ours = row_of(section, "**rtrelay**, SSE", 1)
    assert "30 us" in ours
    assert "20 MiB" in ours
    assert "absent was left out: did not start" in section
    assert "at most 31 % of a core" in section


def test_aims_are_told_met_or_not(result: dict[str, Any]) -> None:
    section = tables.section(published.compact(result))
    assert "| SSE, 64 x 100/s: CPU, over nginx | 3.0 | 3.2 | missed |" in section


def test_who_cannot_keep_up_is_marked_and_has_no_further_figures(result: dict[str, Any]) -> None:
    section = tables.section(published.compact(result))
    assert "0.25 / 0.25 †" in row_of(section, "Slow")
    slow = row_of(section, "Slow", 1)
    assert "900 us †" in slow
    assert slow.count("us") == 1
    assert "slow does not keep up with 16x100: because" in section


def test_who_never_stops_and_who_lies_is_told(result: dict[str, Any]) -> None:
    section = tables.section(published.compact(result))
    assert "never stopped" in row_of(section, "Slow", 2)
    assert "1 told, 2 lies" in row_of(section, "Slow", 2)
    assert "1.0 / 2.5 ms" in row_of(section, "**rtrelay**, SSE", 2)
    assert "3 of 8 never" in row_of(section, "nginx, a plain hop", 2)


def test_tables_are_rectangular(result: dict[str, Any]) -> None:
    section = tables.section(published.compact(result))
    for table in section.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_a_run_of_some_cases_is_rendered_too(result: dict[str, Any]) -> None:
    for case in ("load", "leaving", "cuts"):
        some = copy.deepcopy(result)
        del some["cases"][case]
        assert tables.section(published.compact(some))
        pictures.of(published.compact(some))


def test_a_compact_result_keeps_figures_and_drops_buckets(result: dict[str, Any]) -> None:
    small = published.compact(result)
    load = small["cases"]["load"]
    assert "histograms" not in load
    assert load["rows"] == result["cases"]["load"]["rows"]
    tail = load["tails_ms"]["sse/16x100/ttft"]
    assert [share for share, _ in tail] == sorted((share for share, _ in tail), reverse=True)
    assert tail[0][1] == pytest.approx(20.5, rel=0.01)


def test_pictures_are_documents_with_every_curve(result: dict[str, Any]) -> None:
    found = pictures.of(published.compact(result))
    assert set(found) == {"ttft_16x100.svg", "token_64x100.svg", "cpu_64x100.svg"}
    for text in found.values():
        ET.fromstring(text)
        assert "rtrelay, SSE" in text
    assert "Slow" not in found["cpu_64x100.svg"]


def test_the_section_replaces_what_was_between_the_markers() -> None:
    readme = f"before\n{published.BEGIN}\nold\n{published.END}\nafter\n"
    once = published.insert(readme, "new\n")
    assert "old" not in once
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n")
    assert published.insert(once, "new\n") == once
    with pytest.raises(published.RenderError):
        published.insert("no markers", "new")


def test_readme_and_pictures_agree_with_the_run_in_git() -> None:
    readme = published.README.read_text()
    differing = [
        path.name
        for path, text in published.files(published.latest(), readme).items()
        if not path.exists() or path.read_text() != text
    ]
    assert not differing, "python -m bench.peers render"
