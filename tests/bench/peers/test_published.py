"""README's comparison follows from the run that is kept in git, and from nothing else."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from bench.peers import pictures, published, tables
from bench.peers.cases.all import CASES
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
    shares = {"load_core_%": 31.0, "emulator_core_%": 40.0}
    return {**row, **latencies, "over_nginx": hop_us / 10, **shares, **more}


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


@pytest.fixture
def with_c(result: dict[str, Any]) -> dict[str, Any]:
    """With what h2load measured, and pauses before a GOAWAY."""
    closed = {"answers_per_s": 900.0, "answer_p50_ms": 2.0, "answer_p99_ms": 9.0, "bad": 0.0}
    streamed = {**closed, "tokens_per_s": 20_000.0}
    rung = {
        "tokens_per_s": 6_270.0,
        "sent_share": 1.0,
        "answer_p50_ms": 0.5,
        "answer_p99_ms": 2.5,
        "load_us": 28.0,
        "load_core_%": 18.0,
    }
    empty: dict[str, Any] = {"targets": [], "notes": [], "histograms": {}}
    result["versions"] = {"h2load": "1.52.0"}
    result["pinning"] = "gateway on core 0, emulator and generator on 1"
    result["options"]["is_pinned"] = False
    result["are_ends_together"] = True
    result["cases"] |= {
        "capacity": {
            **empty,
            "axes": {
                "client": "h2load 1.52.0",
                "arms": ["direct", "sse", "nginx"],
                "rounds": 3,
                "stream": {"tokens": 50, "itl_ms": 5},
            },
            "rows": {
                "direct/whole_16": closed,
                "sse/whole_16": {**closed, "hop_us": 1_100.0, "hop_core_%": 99.0},
                "sse/stream_128": {**streamed, "hop_us": 41.0, "hop_core_%": 86.0},
                "nginx/stream_128": {**streamed, "hop_us": 14.0, "hop_core_%": 32.0, "bad": 2.0},
            },
        },
        "client": {
            **empty,
            "axes": {
                "axes": [{"streams": 64, "per_second": 100}, {"streams": 256, "per_second": 100}],
                "rounds": 3,
                "limit_core_%": 70.0,
                "ended": {"nginx": "the emulator uses 96 % of a core"},
            },
            "rows": {
                "direct/64x100/python": rung,
                "direct/64x100/h2load": {**rung, "load_us": 7.5, "sent_share": 0.9},
                "direct/64x100/added": {
                    "answer_p50_ms": 0.05,
                    "answer_p99_ms": 0.37,
                    "load_us": 20.5,
                },
                "direct/limit": {"tokens_per_s": 20_100.0, "is_reached": 1.0},
                "nginx/64x100/python": rung,
                "nginx/limit": {"tokens_per_s": 12_500.0, "is_reached": 0.0},
            },
        },
        "idle": {
            **empty,
            "axes": {"idle_s": [120.0]},
            "rows": {
                f"sse/{kind}idle_120s": {
                    "over_warm_ms": late_ms,
                    "over_warm_ms_low": 0.5,
                    "over_warm_ms_high": 4.5,
                    "failed": 0,
                }
                for kind, late_ms in (("", 0.75), ("goaway_", 3.25))
            },
        },
    }
    return result


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


def test_tables_are_rectangular(with_c: dict[str, Any]) -> None:
    section = tables.section(published.compact(with_c))
    for table in section.split("\n\n"):
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_what_h2load_measured_is_told(with_c: dict[str, Any]) -> None:
    section = tables.section(published.compact(with_c))
    assert "By h2load 1.52.0 in a closed loop" in section
    closed = next(part for part in section.split("\n\n") if "whole answers a second, 16" in part)
    assert "| **rtrelay**, SSE | 900 (99 %) |" in closed
    assert "20,000 (86 %) | 41 us |" in closed
    assert "20,000 (32 %), 2 bad | 14 us |" in closed
    assert "| direct | 900 |" in closed


def test_what_python_adds_is_told_and_up_to_which_rate(with_c: dict[str, Any]) -> None:
    section = tables.section(published.compact(with_c))
    assert (
        "| direct, 64 x 100/s | 6,270 | 28 us, 18 % | 7.5 us, 18 %, sent only 90 % |"
        " 0.50 / 2.5 ms | 0.50 / 2.5 ms | 0.05 / 0.37 ms, 20 us |"
    ) in section
    # Without h2load's, Python's alone.
    assert "| nginx, 64 x 100/s | 6,270 | 28 us, 18 % |  | 0.50 / 2.5 ms |  |  |" in section
    assert "emulator, Python uses 70 % of a core at 20,100 tokens a second." in section
    assert "up to 12,500 tokens a second, the most that was tried (the emulator uses 96" in section


def test_pauses_before_a_goaway_are_told(with_c: dict[str, Any]) -> None:
    section = tables.section(published.compact(with_c))
    assert "| first after 120 s | first after 120 s and a GOAWAY |" in section
    assert "0.75 ms (0.50 to 4.5) | 3.2 ms (0.50 to 4.5)" in section


def test_how_it_was_run_is_told(with_c: dict[str, Any]) -> None:
    with_c |= {"wanted": list(CASES), "sittings": [{}, {}]}
    for case in with_c["cases"].values():
        case["is_whole"] = True
    section = tables.section(published.compact(with_c))
    assert 'ARGS="--quick --rounds 3 --no-pin"' in section
    assert "gateway on core 0, emulator and generator on 1." in section
    assert "2 sittings" in section
    assert "together used at most 71 % of theirs" in section
    assert "**Interrupted: without all of shapes, goaway.**" in section


def test_a_run_of_some_cases_has_them_in_its_command(result: dict[str, Any]) -> None:
    result["wanted"] = ["load", "cuts"]
    section = tables.section(published.compact(result))
    assert 'ARGS="load cuts --quick --rounds 3"' in section
    result["wanted"] = list(CASES)
    section = tables.section(published.compact(result))
    assert 'ARGS="--quick --rounds 3"' in section


def test_a_figure_that_was_changed_by_hand_is_found(
    with_c: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"{published.BEGIN}\n{published.END}\n")
    monkeypatch.setattr(published, "README", readme)
    monkeypatch.setattr(published, "ROOT", tmp_path)
    monkeypatch.setattr(published, "RESULTS", tmp_path)
    monkeypatch.setattr(published, "LATEST", tmp_path / "latest.json")
    published.publish(with_c)
    assert published.render(check=True) == 1
    assert published.render(check=False) == 0
    assert published.render(check=True) == 0
    whole = readme.read_text()
    for figure in ("20,000 (86 %)", "20,100 tokens", "3.2 ms", "--no-pin"):
        assert figure in whole
        readme.write_text(whole.replace(figure, "better"))
        assert published.render(check=True) == 1


def test_a_run_of_some_cases_is_rendered_too(with_c: dict[str, Any]) -> None:
    for case in ("load", "leaving", "cuts", "capacity", "client", "idle"):
        some = copy.deepcopy(with_c)
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
