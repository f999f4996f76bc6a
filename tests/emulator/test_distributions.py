"""Latency distributions: notation, values, seeds."""

from __future__ import annotations

import csv
import random
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.emulator import shared_data
from relay.emulator.distributions import Distribution, Fixed, QuantileTable, parse_distribution


def draws(text: str, count: int = 2000, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    source = parse_distribution(text, {})
    return [source.draw_ms(rng, index) for index in range(count)]


def test_fixed() -> None:
    assert set(draws("200")) == {200.0}


def test_uniform() -> None:
    values = draws("100..300")
    assert min(values) >= 100
    assert max(values) <= 300
    assert statistics.mean(values) == pytest.approx(200, rel=0.05)


def test_exponential() -> None:
    assert statistics.mean(draws("exp:20", 5000)) == pytest.approx(20, rel=0.1)


def test_quantile_table_gives_its_quantiles_back() -> None:
    cuts = statistics.quantiles(draws("q:p0=80;p50=200;p95=900;p100=3000", 20_000), n=100)
    assert cuts[49] == pytest.approx(200, rel=0.05)
    assert cuts[94] == pytest.approx(900, rel=0.1)


def test_quantile_table_is_flat_outside_its_points() -> None:
    table = QuantileTable([(50, 100), (90, 500)])
    assert [table.at(percent) for percent in (0, 50, 70, 90, 100)] == [100, 100, 300, 500, 500]


def test_the_same_seed_draws_the_same_values() -> None:
    text = "q:0=80;50=200;100=3000"
    assert draws(text, seed=7) == draws(text, seed=7)
    assert draws(text, seed=7) != draws(text, seed=8)


class TestCsv:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        rows = ["host,model,ttft_ms", "a,m1,10", "a,m2,20", "b,m1,30", "b,m2,"]
        (tmp_path / "times.csv").write_text("\n".join(rows))
        monkeypatch.setenv("RELAY_TTFT_DATA", str(tmp_path))
        return tmp_path

    @pytest.mark.usefixtures("folder")
    def test_column_without_failed_rows(self) -> None:
        assert set(draws("csv:times.csv:ttft_ms")) == {10, 20, 30}

    @pytest.mark.usefixtures("folder")
    def test_filter(self) -> None:
        assert set(draws("csv:times.csv:ttft_ms:host=a;model=m2")) == {20}

    @pytest.mark.usefixtures("folder")
    def test_in_file_order_and_again(self) -> None:
        assert draws("csvseq:times.csv:ttft_ms", 5) == [10, 20, 30, 10, 20]

    def test_absolute_path(self, folder: Path) -> None:
        assert set(draws(f"csv:{folder}/times.csv:ttft_ms:host=b")) == {30}

    @pytest.mark.parametrize(
        "text", ["csv:none.csv:x", "csv:times.csv:colour", "csv:times.csv:ttft_ms:host=z"]
    )
    @pytest.mark.usefixtures("folder")
    def test_what_is_not_there(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"cannot read|no values"):
            parse_distribution(text, {})


@pytest.mark.skipif(
    not shared_data.ttft_data().is_dir(),
    reason="the published latencies are not here; set RELAY_TTFT_DATA",
)
def test_column_of_the_published_data() -> None:
    """One host of the llmperf leaderboard, against what the file itself says."""
    name = "llmperf_leaderboard.csv"
    published = [
        float(row["ttft_ms"])
        for row in csv.DictReader((shared_data.ttft_data() / name).read_text().splitlines())
        if row["provider"] == "together" and row["model"] == "llama-2-70b-chat" and row["ttft_ms"]
    ]
    assert len(published) > 50
    column = f"{name}:ttft_ms:provider=together;model=llama-2-70b-chat"
    assert draws(f"csvseq:{column}", len(published)) == published
    drawn = draws(f"csv:{column}", 20_000)
    assert set(drawn) <= set(published)
    assert statistics.median(drawn) == pytest.approx(statistics.median(published), rel=0.02)


@pytest.mark.parametrize(
    ("folder", "variable", "default"),
    [
        (shared_data.ttft_data, "RELAY_TTFT_DATA", "shared/data/ttft"),
        (shared_data.wire_corpus, "RELAY_WIRE_CORPUS", "shared/wire/fixtures"),
    ],
)
def test_data_lies_beside_the_repository_or_where_the_environment_says(
    folder: Callable[[], Path],
    variable: str,
    default: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(variable, raising=False)
    assert folder() == Path(__file__).resolve().parents[3] / default
    monkeypatch.setenv(variable, str(tmp_path / "data"))
    assert folder() == tmp_path / "data"


def test_name_is_looked_up_in_its_folder_then_where_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, here = tmp_path / "data", tmp_path / "here"
    folder.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    assert shared_data.find(folder, "own.csv") is None
    (here / "own.csv").touch()
    assert shared_data.find(folder, "own.csv") == Path("own.csv")
    (folder / "own.csv").touch()
    assert shared_data.find(folder, "own.csv") == folder / "own.csv"
    assert shared_data.find(folder, str(here / "own.csv")) == here / "own.csv"


def test_named() -> None:
    named: dict[str, Distribution] = {"quick": Fixed(3)}
    assert parse_distribution("@quick", named) is named["quick"]
    with pytest.raises(ValueError, match="no distribution named 'slow'"):
        parse_distribution("@slow", named)


@pytest.mark.parametrize("text", ["", "fast", "-1", "1..", "inf", "nan", "q:", "q:-5=1", "exp:x"])
def test_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_distribution(text, {})
