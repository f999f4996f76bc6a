"""`relay report` as people type it, and held against a relay that was watched."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from relay.cli import app
from relay.store.engine import engine_for, migrate
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.log_lines import attempt, line
from tests.fakes.relay_process import RelayProcess
from tests.fakes.relay_under_test import chat_body
from tests.fakes.usage_rows import LOSER, NOW_US, generation, write

RANGE = ("--since", "2026-05-25", "--until", "2026-06-08")
"""Around `NOW_US`, 2026-05-28."""


def run(*arguments: str, status: int = 0, typed: bytes | None = None) -> Result:
    ran = CliRunner().invoke(app, ["report", *arguments], env={"COLUMNS": "250"}, input=typed)
    assert ran.exit_code == status, ran.output
    return ran


@pytest.fixture
def config(tmp_path: Path) -> Path:
    engine = engine_for(f"sqlite:///{tmp_path / 'relay.db'}")
    migrate(engine)
    write(
        engine,
        *(generation(n, admitted_at_us=NOW_US + n, ttft_us=300_000) for n in range(8)),
        generation(8, [{}, LOSER], admitted_at_us=NOW_US, ttft_us=2_000_000, team_id="team_2"),
    )
    engine.dispose()
    made = tmp_path / "relay.yaml"
    document = {
        "store": {"url": f"sqlite:///{tmp_path / 'relay.db'}"},
        "objectives": {"voice": {"percent": 90, "first_content_ms": 800}},
    }
    made.write_text(yaml.safe_dump(document))
    return made


def test_out_of_a_store(config: Path, tmp_path: Path) -> None:
    text = run("-c", str(config), *RANGE, "--by", "team").stdout
    assert text.startswith("# Relay report, 2026-05-25 to 2026-06-07\n")
    assert "voice (90 % within 800 ms): 88.89 % kept it, 111.1 % of the error budget" in text
    assert "| team_1 | 8 |" in text
    told = json.loads(run("-c", str(config), *RANGE, "--format", "json").stdout)
    assert (told["all"]["generations"], told["all"]["hedges"]["extra_micro"]) == (9, 30)
    one = run("-c", str(config), *RANGE, "--where", "team=team_2", "--format", "json").stdout
    assert json.loads(one)["all"]["generations"] == 1
    copy = ("--database", str(tmp_path / "relay.db"), "--objective", "50", "--within", "100")
    copied = json.loads(run(*copy, *RANGE, "--format", "json").stdout)
    assert (copied["objectives"][0]["name"], copied["objectives"][0]["bad"]) == ("objective", 9)


def test_to_a_file_by_its_name(config: Path, tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    for _ in range(2):  # the next week's goes over this week's
        ran = run("-c", str(config), *RANGE, "-o", str(target))
        assert ran.stdout == ""
        assert "9 generations, " in ran.stderr
    assert target.read_text().startswith("<!doctype html>")
    assert stat.S_IMODE(target.stat().st_mode) & 0o044 == 0o044
    assert {each.name for each in tmp_path.iterdir() if "report" in each.name} == {"report.html"}
    run("-c", str(config), *RANGE, "-o", str(tmp_path / "r.md"))
    assert (tmp_path / "r.md").read_text().startswith("# Relay report")
    run("-c", str(config), *RANGE, "-o", str(tmp_path / "none" / "r.md"), status=1)


def test_out_of_a_log(tmp_path: Path) -> None:
    rows = [
        line([attempt("a/m", first_us=100_000)], received_s=float(n), key=f"key_{n % 2}",
             tags=["prod"], labels={"user": "u1"})
        for n in range(4)
    ]  # fmt: skip
    log = tmp_path / "relay.log"
    log.write_bytes(b"".join(row + b"\n" for row in rows) + b"not json\n")
    told = json.loads(run("--from-logs", str(log), "--format", "json", "--by", "key").stdout)
    assert told["all"]["generations"] == 4
    assert {name: group["generations"] for name, group in told["groups"].items()} == {
        "key_0": 2,
        "key_1": 2,
    }
    typed = run("--from-logs", "-", "--format", "json", typed=log.read_bytes()).stdout
    assert json.loads(typed)["all"]["generations"] == 4
    for where, count in (
        ("key=key_1", 2), ("alias=slow", 0), ("tag=prod", 4), ("label:user=u2", 0)
    ):  # fmt: skip
        one = run("--from-logs", str(log), "--where", where, "--format", "json").stdout
        assert json.loads(one)["all"]["generations"] == count


def test_lines_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    log, page = tmp_path / "relay.log", tmp_path / "r.md"
    log.write_bytes(b"a\n\nb\n" + line([attempt("a/m", first_us=9)], received_s=0.0) + b"\n")
    ran = run("--from-logs", str(log), "-o", str(page))
    assert "2 lines of the log could not be read" in ran.stderr
    assert "2 lines of the log could not be read." in page.read_text()
    page.unlink()
    log.write_bytes(b'no log\n{"of": "another"}\n')
    ran = run("--from-logs", str(log), "-o", str(page), status=1)
    assert "2 lines could not be read, and no other is there" in ran.stderr
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "-c relay.yaml, --database FILE or --from-logs FILE is needed"),
        (("--by", "luck"), "--by: "),
        (("--format", "pdf"), "--format: "),
        (("--since", "soon"), "--since: "),
        (("--since", "1d", "--until", "2d"), "--since: it is not before --until"),
        (("--time-zone", "Mars"), "--time-zone: "),
        (("--objective", "99"), "--objective and --within go together"),
        (("--objective", "100", "--within", "5"), "--objective: "),
        (("--objective", "99", "--within", "0"), "--within: "),
        (("--where", "team"), "--where 'team'"),
        (("--where", "luck=1"), "where: 'luck'"),
        (("--from-logs", "none.log"), "--from-logs none.log: cannot be read"),
        (("--from-logs", "none.log", "--by", "team"), "a log knows no teams"),
        (("--from-logs", "none.log", "--where", "state=open"), "--where: of a log only"),
        (("--from-logs", "a", "--database", "b"), "do not go together"),
        (("--database", "none.db"), "--database: there is no file none.db"),
        (("-c", "none.yaml"), "none.yaml"),
    ],
)
def test_what_cannot_be_is_told(arguments: tuple[str, ...], words: str) -> None:
    assert words in run(*arguments, status=1).stderr


def test_of_a_provider_the_scorecard_tells(config: Path) -> None:
    ran = run("-c", str(config), *RANGE, "--where", "provider=openai", status=1)
    assert "scorecard" in ran.stderr


def test_objectives_are_of_aliases_that_are_there(tmp_path: Path) -> None:
    made = tmp_path / "relay.yaml"
    row = {"percent": 99, "first_content_ms": 800, "aliases": ["fsat"]}
    made.write_text(yaml.safe_dump({"objectives": {"voice": row}}))
    assert "objectives.voice.aliases: there is no alias 'fsat'" in run(
        "-c", str(made), status=1
    ).stderr  # fmt: skip


@pytest.mark.sockets
async def test_log_and_store_tell_the_same(emulator: EmulatorProcess, tmp_path: Path) -> None:
    """A relay whose first target is slow and whose hedges win; what was asked is what is told."""
    (tmp_path / "key").write_text("key-of-the-tests")
    door = {
        "wire": "openai_chat",
        "base_url": f"{emulator.base_url_plain}/v1",
        "api_key": "${file:key}",
        "prices": {"emu-*": {"input": 1, "output": 2}},
    }
    hedge = {"mode": "active", "delay": 50, "max_extra_requests": 1.0, "max_extra_cost": 10.0}
    document: dict[str, Any] = {
        "store": {"url": f"sqlite:///{tmp_path / 'relay.db'}"},
        "providers": {"slow": door, "quick": door},
        "models": {
            "fast": {
                "candidates": [
                    {"provider": "slow", "model": "emu-fast:ttft=400"},
                    {"provider": "quick", "model": "emu-fast:ttft=60"},
                ],
                "hedge": hedge,
            }
        },
    }
    async with RelayProcess(tmp_path, document) as relay, relay.http() as http:
        body = {**chat_body("fast"), "stream": False, "max_tokens": 2}
        answers = [await http.post("/v1/chat/completions", json=body) for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200}
        wrong = {**body, "model": "slow/emu-fast:fault=status:500"}
        assert (await http.post("/v1/chat/completions", json=wrong)).status_code >= 500
        for _ in range(7):
            await relay.logged("generation")
        lines = list(relay.raw)
    log = tmp_path / "relay.log"
    log.write_text("\n".join(lines))
    sources = (("-c", str(relay.path)), ("--from-logs", str(log)))
    told_of = []
    for source in sources:
        ran = await asyncio.to_thread(run, *source, "--since", "1h", "--format", "json")
        told_of.append(json.loads(ran.stdout))
    stored, logged = told_of
    for told in told_of:
        assert (told["all"]["generations"], told["all"]["failed"]) == (7, 1)
        assert told["all"]["hedges"]["hedged"] == told["all"]["hedges"]["won"] == 6
        assert told["providers"]["quick"]["hedges_won"] == 6
        assert told["providers"]["slow"]["outrun"] == 6
        assert told["providers"]["slow"]["failed"] >= 1
        assert told["all"]["hedges"]["unrated"] == 6, "six are too few"
    same = ("ttft", "dead_air", "failed", "left")
    assert {name: stored["all"][name] for name in same} == {
        name: logged["all"][name] for name in same
    }
    assert stored["providers"]["quick"]["ttft"] == logged["providers"]["quick"]["ttft"]
