"""The pictures of docs/hedging.md are those that the script draws, and say what the page says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import hedging_pictures as script
from tests.docs.pages import DOCS

PAGE = (DOCS / "hedging.md").read_text(encoding="utf-8")
ANEW = "`python -m bench.hedging_pictures` draws it anew"


def kept(name: str) -> str:
    return (script.PICTURES / name).read_text(encoding="utf-8")


def test_race_is_the_one_that_was_recorded() -> None:
    record = json.loads(kept("race.json"))
    assert kept("race.svg") == script.race(record), ANEW
    lost, won = record["attempts"]
    comes_ms = (won["started_us"] + won["first_content_us"]) // 1000
    assert f"whose first content comes at {comes_ms} ms" in PAGE
    assert abs(lost["ended_us"] / 1000 - comes_ms) < 10, "the loser is reset at once"


def test_breaker_is_the_relays() -> None:
    assert kept("breaker.svg") == script.breaker_picture(script.shares()), ANEW
    assert [share for _, share in script.shares()][:6] == [1.0, 0.0, 0.1, 0.25, 0.5, 1.0]


def test_tail_is_that_of_the_published_percentiles() -> None:
    try:
        picture = script.tail_picture()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert kept("tail.svg") == picture, ANEW
    alone, hedged, _ = (script.quantile_s(later, 0.99) for later in script.arms().values())
    assert f"comes down from {alone:.1f} to {hedged:.1f} s" in re.sub(r"\s+", " ", PAGE)


def test_pictures_are_whole_and_shown() -> None:
    for name in ("race.svg", "tail.svg", "breaker.svg"):
        ElementTree.fromstring(kept(name))
        assert f"](pictures/{name})" in PAGE


def test_a_race_is_taken_from_a_log(tmp_path: Path) -> None:
    record = json.loads(kept("race.json"))
    hedge = {"won": True, "delay_us": record["delay_us"]}
    lines = [
        "not JSON",
        json.dumps({"event": "generation", "hedge": None, "attempts": []}),
        json.dumps({"event": "generation", "hedge": hedge, "attempts": record["attempts"]}),
    ]
    (tmp_path / "relay.log").write_text("\n".join(lines))
    assert script.first_race(tmp_path / "relay.log") == record
    (tmp_path / "none.log").write_text("")
    with pytest.raises(SystemExit, match="no hedge has won"):
        script.first_race(tmp_path / "none.log")
