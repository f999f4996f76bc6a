"""How a frame looks, from wide to narrow."""

from __future__ import annotations

import pytest
from rich.cells import cell_len
from rich.console import Console

from relay.commands.top_frame import Frame, frame
from relay.commands.top_view import ALL, SORT_KEYS, Screen, draw
from tests.fakes.relay_states import alias, at, several, target, worker


def lines(found: Frame | None, screen: Screen) -> list[str]:
    console = Console(width=min(screen.width, 8192), color_system=None, highlight=False)
    with console.capture() as text:
        console.print(draw(found, screen))
    return [line.rstrip() for line in text.get().splitlines()]


def some(count: int = 3) -> Frame:
    def state(uptime_s: float, asked: int) -> dict[str, object]:
        rows = {f"provider-{n}/model-{n}": target(asked=asked * (n + 1)) for n in range(count)}
        rows["openai/gpt"] = target(state="ramp", share=0.25, suspected=True, samples=3)
        hedging = {"fast": alias(requests=10, fired=4, won=1, extra_cost_usd=0.0123)}
        origins = [{"origin": "https://api.openai.com", "connections": 2, "waiting": 1}]
        return worker(uptime_s, rows, hedging, origins=origins)

    return frame(
        at(0.0, several(state(60, 0), state(60, 0))), at(2.0, several(state(62, 3), state(62, 3)))
    )


def test_all_of_it() -> None:
    shown = lines(some(), Screen(sort="rate", url="http://r"))
    text = "\n".join(shown)
    head = next(line for line in shown if line.startswith("target"))
    for title in ("state", "req/s", "p50 ms", "p90 ms", "p99 ms", "errors", "in flight", "limit"):
        assert title in head
    first = shown[shown.index(head) + 1].split()
    assert first[:3] == ["provider-2/model-2", "closed", "9.0"]
    assert "ramp 25% suspected" in text
    assert "~100" in text, "few samples are marked"
    assert "4 (40%)" not in text, "of both workers together"
    assert "8 (40%)" in text
    assert "0.0246" in text
    worker_row = next(line for line in shown if line.startswith("1  "))
    assert worker_row.split() == ["1", "ready", "0", "0.1"]


@pytest.mark.parametrize("width", [200, 120, 80, 60, 40, 20, 8])
@pytest.mark.parametrize("height", [60, 24, 12, 6, 3])
def test_it_fits(width: int, height: int) -> None:
    screen = Screen(width, height, url="http://relay", has_keys=True)
    shown = lines(some(30), screen)
    assert max(cell_len(line) for line in shown) <= width
    if width >= 60 and height >= 6:
        assert len(shown) <= height
        assert shown[0].startswith("openai/gpt is coming back: 25% of its traffic")


def test_what_matters_least_goes_first() -> None:
    head = next(line for line in lines(some(), Screen(70, 40)) if line.startswith("target"))
    assert "p50 ms" in head
    assert "errors" in head
    assert "busy" not in head
    narrow = next(line for line in lines(some(), Screen(30, 40)) if line.startswith("target"))
    assert narrow.split() == ["target", "state"]


def test_hidden_rows_are_told() -> None:
    shown = lines(some(40), Screen(100, 24, has_keys=True))
    assert any("more" in line and "..." in line for line in shown)
    assert len(shown) <= 24


def test_a_lost_connection_is_told_with_the_age_of_what_is_shown() -> None:
    screen = Screen(100, 24, url="http://relay", lost="nobody answers there", lost_s=7.4)
    shown = lines(some(), screen)
    assert "nobody answers there; trying again. What is below is 7 s old." in shown[0]
    (alone,) = lines(None, screen)
    assert alone == "Cannot reach http://relay: nobody answers there; trying again."
    assert lines(None, Screen(80, 24, url="http://relay")) == ["asking http://relay ..."]


def test_names_do_nothing_to_a_terminal() -> None:
    name = "evil/\x1b[31m[red]x[/red]\n"
    shown = lines(frame(None, at(1.0, worker(9, {name: target()}))), Screen())
    text = "\n".join(shown)
    assert "\x1b" not in text
    assert "[red]x[/red]" in text


def test_what_runs_now_is_called_running() -> None:
    text = "\n".join(lines(some(), Screen()))
    assert " running, " in text
    assert "generations, " not in text


def test_every_order_has_a_key() -> None:
    assert set(SORT_KEYS.values()) == {
        "name", "rate", "errors", "p50", "p99", "flight", "trouble"
    }  # fmt: skip
    assert ALL > 10_000
