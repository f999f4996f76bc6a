"""`relay measure`: nothing is sent without a word, and a fresh relay plans by what was found."""

from __future__ import annotations

import json
import re
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from relay.cli import app
from relay.commands.check import find
from relay.commands.measure import Wish, finish, measure, prepare
from relay.measuring.choice import Named
from relay.measuring.prompts import Shape
from relay.measuring.rounds import Bound
from relay.store import learned
from tests.fakes.command import Terminal, relay_command
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.h1_server import H1Server, answer
from tests.fakes.relay_under_test import RelayUnderTest, provider, relay_under_test

PRICE = {"input": 1.0, "output": 2.0}


def written(directory: Path, document: dict[str, Any]) -> str:
    path = directory / "relay.yaml"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def refused(path: str, *arguments: str) -> str:
    """Why, of a command that sends nothing; what it printed comes first."""
    environment = {"COLUMNS": "200"}
    ran = CliRunner().invoke(app, ["measure", "-c", path, *arguments], env=environment)
    assert ran.exit_code == 1, ran.output
    return ran.stdout + ran.stderr


def dead(**more: Any) -> dict[str, Any]:
    """A provider that would refuse the connection, were it asked."""
    row = provider("http://127.0.0.1:9", prices={"m": PRICE}, **more)
    return {"store": {"url": "sqlite:///relay.db"}, "providers": {"lab": row}}


# --- before anything is sent ----------------------------------------------------------------


def test_a_worst_cost_without_a_price_says_what_it_lacks(tmp_path: Path) -> None:
    text = refused(written(tmp_path, dead()), "--model", "lab/other")
    assert "At worst $0.0000, without those whose price is unknown." in text
    assert "no price is known of lab/other" in text


def test_without_yes_the_worst_cost_is_all_there_is(tmp_path: Path) -> None:
    text = refused(written(tmp_path, dead()), "--model", "lab/m", "--samples", "10")
    row = re.search(r"lab/m\s*│ -\s*│ 1 / 2\s*│ 10\s*│ (\d\.\d+)", text)
    assert row is not None
    # 5 prompts of some 100 and 5 of some 2,000 tokens, 16 tokens back, at $1 and $2 a million.
    assert 0.0105 < float(row.group(1)) < 0.03
    assert f"At worst ${row.group(1)}." in text
    assert "nothing was sent; --yes measures" in text
    assert not (tmp_path / "relay.db").exists()


def test_a_bound_below_the_worst_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, dead())
    text = refused(path, "--model", "lab/m", "--samples", "1000", "--max-usd", "0.5")
    assert "it stops before $0.5 (--max-usd) are spent" in text


def test_a_price_that_is_not_known_is_a_reason(tmp_path: Path) -> None:
    path = written(tmp_path, dead())
    text = refused(path, "--model", "lab/other", "--yes")
    assert "no price is known of lab/other: give providers.X.prices, or --unpriced" in text
    allowed = refused(path, "--model", "lab/other", "--unpriced")
    assert "What the unpriced doors cost is counted nowhere." in allowed
    assert "nothing was sent" in allowed


@pytest.mark.parametrize("store", [None, {"url": "postgresql://u:canary@h/d"}])
def test_without_a_sqlite_file_priors_have_no_place(
    tmp_path: Path, store: dict[str, str] | None
) -> None:
    path = written(tmp_path, {**dead(), "store": store})
    text = refused(path, "--model", "lab/m", "--yes")
    assert "the file has no SQLite store (store.url)" in text
    assert "--no-priors" in text
    assert "canary" not in text
    assert "nothing was sent" in refused(path, "--model", "lab/m", "--no-priors")


def test_a_store_that_is_damaged_is_found_before_it_costs(tmp_path: Path) -> None:
    (tmp_path / "relay.db").write_bytes(b"no database" * 1000)
    text = refused(written(tmp_path, dead()), "--model", "lab/m", "--yes")
    assert "store.url: relay.db: file is not a database" in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "say what to measure"),
        (["--model", "nothing"], "nothing"),
        (["--same", "gpt-9", "--yes"], "--same gpt-9"),
        (["--model", "lab/m", "--tier", "priority"], "lab has no such tier"),
    ],
)
def test_what_cannot_be_meant_is_told(tmp_path: Path, arguments: list[str], told: str) -> None:
    assert told in refused(written(tmp_path, dead()), *arguments)


# --- measured -------------------------------------------------------------------------------


def lab(emulator: EmulatorProcess, *behaviours: str, **more: Any) -> dict[str, Any]:
    """A row that says of all these that they are one model."""
    return provider(
        emulator.base_url_tls,
        ca_file=emulator.ca_file,
        prices=dict.fromkeys(behaviours, PRICE),
        same_as=dict.fromkeys(behaviours, "one"),
        **more,
    )


@pytest.mark.sockets
async def test_the_table_tells_of_every_door(
    tmp_path: Path, emulator: EmulatorProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSED", "bad-key")
    quick, slow, odd = "emu:ttft=2,tokens=1", "emu:ttft=80,tokens=1", "emu:ttft=3,tokens=1"
    document = {
        "store": {"url": "sqlite:///relay.db"},
        "providers": {
            "quick": lab(emulator, quick),
            "slow": lab(emulator, slow),
            "shut": {**lab(emulator, odd), "auth": "bearer", "api_key": "${REFUSED}"},
        },
    }
    path = written(tmp_path, document)
    ran = await relay_command("measure", "-c", path, "--same", "one", "--samples", "10", "--yes")
    assert ran.status == 1, "one of them gave nothing"
    assert ran.errors == ""
    table = ran.output.partition("time to first token, ms")[2]
    rows = [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in table.splitlines()
        if line.startswith("│")
    ]
    assert [row[:3] for row in rows] == [
        ["one", f"quick/{quick}", "10 of 10"],
        ["one", f"slow/{slow}", "10 of 10"],
        ["one", f"shut/{odd}", "0 of 1"],
    ]
    medians = [int(row[3].partition(" ")[0]) for row in rows[:2]]
    assert medians[1] >= 80 > medians[0]
    assert f"shut/{odd}: 1 of 1 misconfigured: The key given is not valid." in ran.output
    assert f"shut/{odd} was left" in ran.output
    assert "it went to its end" in ran.output
    assert "bad-key" not in ran.output
    assert "relay.db has the priors of 2 targets" in ran.output
    assert "(--samples 100)" in ran.output, "ten are not enough for a delay"
    assert learned.load(tmp_path / "relay.db", 0).keys() == {f"quick/{quick}", f"slow/{slow}"}
    asked = [stream["model"] for stream in emulator.streams() if stream["model"] in (quick, slow)]
    rounds = [set(asked[start : start + 2]) for start in range(0, 20, 2)]
    assert rounds == [{quick, slow}] * 10, "in turn"


def wish(*models: str, samples: int = 30, max_usd: float = 1.0, **more: bool) -> Wish:
    """One target, agreed to."""
    flags = {"allows_unpriced": False, "keeps_priors": False, "as_json": False, **more}
    bound = Bound(samples, max_usd * 1e6)
    return Wish(Named(models=models), bound, Shape(), is_confirmed=True, **flags)


async def run_here(path: str, wish: Wish) -> tuple[str, str]:
    """The command in this process: what it tells people, and what is on standard output."""
    told = Console(file=StringIO(), width=200)
    out = told if not wish.as_json else Console(file=StringIO(), width=200)
    found = find(Path(path), {})
    doors, file = prepare(told, found, wish)
    measured = await measure(found.config, doors, wish, told)
    assert finish(told, out, measured, wish, file) == 0
    assert isinstance(told.file, StringIO)
    assert isinstance(out.file, StringIO)
    return told.file.getvalue(), out.file.getvalue()


@pytest.mark.sockets
async def test_for_programs(tmp_path: Path, emulator: EmulatorProcess) -> None:
    model = "emu:ttft=1,tokens=1,seed=31"
    path = written(tmp_path, {"store": None, "providers": {"lab": lab(emulator, model)}})
    told, shown = await run_here(path, wish(f"lab/{model}", max_usd=0.01, as_json=True))
    found = json.loads(shown)
    assert found["ended"] == "bound"
    assert 0 < found["usd"] <= 0.01
    assert found["priors_written_to"] is None
    (door,) = found["doors"]
    assert 0 < door["samples"] < 30
    assert door["ttft_ms"]["p50"] >= 1
    assert "what it may cost at worst" in told
    assert not list(tmp_path.glob("*.db*"))


@pytest.mark.sockets
async def test_doors_of_other_wires_are_asked_in_their_own(
    tmp_path: Path, emulator: EmulatorProcess
) -> None:
    model = "emu:ttft=1,tokens=2,seed=33"
    wires = {"openai_responses": "/v1", "anthropic_messages": "", "gemini": "", "ollama": ""}
    rows = {
        wire.partition("_")[0]: {
            **lab(emulator, model),
            "wire": wire,
            "base_url": emulator.base_url_tls + path,
        }
        for wire, path in wires.items()
    }
    path = written(tmp_path, {"providers": rows})
    asked = wish(*(f"{name}/{model}" for name in rows), samples=2, as_json=True)
    _, shown = await run_here(path, asked)
    found = json.loads(shown)
    assert [(door["samples"], door["faults"]) for door in found["doors"]] == [(2, {})] * 4
    assert all(door["usd"] > 0.001 for door in found["doors"]), "each gave its account"


@pytest.mark.sockets
async def test_a_door_that_wants_a_token_gets_one(
    tmp_path: Path, emulator: EmulatorProcess
) -> None:
    model = "emu:ttft=1,tokens=1,seed=34"
    token = b'{"access_token": "canary-token", "expires_in": 3599, "token_type": "Bearer"}'
    async with H1Server() as machine:
        machine.default = answer(200, token)
        host = machine.url.removeprefix("http://")
        row = lab(emulator, model)
        del row["auth"]
        row["credential"] = {"kind": "google", "source": "metadata", "metadata_host": host}
        path = written(tmp_path, {"providers": {"cloud": row}})
        _, shown = await run_here(path, wish(f"cloud/{model}", samples=4, as_json=True))
    (door,) = json.loads(shown)["doors"]
    assert (door["samples"], door["faults"]) == (4, {})
    assert "canary" not in shown


@pytest.mark.sockets
async def test_ctrl_c_keeps_what_there_is(tmp_path: Path, emulator: EmulatorProcess) -> None:
    model = "emu:ttft=20,tokens=1,seed=32"
    document = {
        "store": {"url": "sqlite:///relay.db"},
        "providers": {"lab": lab(emulator, model)},
    }
    arguments = ["--model", f"lab/{model}", "--samples", "1000", "--max-usd", "100", "--yes"]
    path = written(tmp_path, document)
    async with Terminal("measure", "-c", path, *arguments) as terminal:
        await terminal.shows("round 15 of 1000")
        terminal.types("\x03")
        await terminal.shows("it was stopped")
        assert await terminal.exited() == 0
    assert learned.load(tmp_path / "relay.db", 0)


# --- what a fresh relay makes of it ---------------------------------------------------------

DEFAULT_MS, SLOW_MS = 1500, 4000


async def first_answer(relay: RelayUnderTest) -> tuple[float, Any]:
    """How long the first request of a relay took, and how its hedge was planned."""
    services = relay.worker.services
    made: list[Any] = []
    plan_of = services.planner.plan

    def planned(*arguments: Any, **more: Any) -> Any:
        made.append(plan_of(*arguments, **more))
        return made[-1]

    services.planner.plan = planned  # type: ignore[method-assign]
    began_s = time.monotonic()
    body = {"model": "fast", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    reply = await relay.chat(body)
    took_s = time.monotonic() - began_s
    assert reply.status_code == 200
    (plan,) = made
    return took_s, plan.hedge


@pytest.mark.sockets
async def test_the_first_plan_of_a_fresh_relay_uses_what_was_measured(
    tmp_path: Path, emulator: EmulatorProcess
) -> None:
    """The first request meets a straggler. A relay that knows nothing waits for its default delay;
    one that starts after a measuring hedges by what was measured."""
    one, two = "emu:ttft=10,tokens=1,seed=41", "emu:ttft=10,tokens=1,seed=42"
    providers = {"one": lab(emulator, one), "two": lab(emulator, two)}
    models = {
        "fast": {
            "candidates": [{"provider": "one", "model": one}, {"provider": "two", "model": two}],
            "hedge": {
                "mode": "active",
                "default_delay_ms": DEFAULT_MS,
                "max_extra_requests": 0.2,
                "max_extra_cost": 1.0,
            },
        }
    }
    store = {"url": f"sqlite:///{tmp_path / 'relay.db'}", "ledger": False}
    document = {"store": store, "providers": providers, "models": models}
    straggler = f"ttft={SLOW_MS},tokens=1"

    async with relay_under_test(document) as relay:
        emulator.script(one, straggler, next_requests=1)
        took_s, hedge = await first_answer(relay)
    assert (hedge.reason, hedge.delay_us) == ("default", DEFAULT_MS * 1000)
    assert took_s >= DEFAULT_MS / 1000

    (tmp_path / "relay.db").unlink()
    path = written(tmp_path, document)
    told, _ = await run_here(path, wish(f"one/{one}", samples=100, keeps_priors=True))
    assert "--samples" not in told, "a hundred are enough for a delay of its own"

    async with relay_under_test(document) as relay:
        emulator.script(one, straggler, next_requests=1)
        took_s, hedge = await first_answer(relay)
        shown = relay.worker.services.planner.states.known(f"one/{one}")
    assert hedge.reason == "learned"
    assert hedge.delay_us is not None
    assert 10_000 <= hedge.delay_us < 500_000 * DEFAULT_MS / 1000
    assert (hedge.fired, hedge.won) == (1, True)
    assert took_s < DEFAULT_MS / 1000
    assert shown is not None
    assert shown.latency.known >= 100
