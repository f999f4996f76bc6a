"""`relay experiments` as people type it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import orjson
import pytest
import yaml
from typer.testing import CliRunner, Result

from relay.cli import app
from relay.observability.experiments.copies import MEASURES
from relay.store.engine import engine_for, migrate
from tests.fakes.log_lines import attempt, line
from tests.fakes.usage_rows import NOW_US, generation, write

RANGE = ("--since", "2026-05-25", "--until", "2026-06-08")
"""Around `NOW_US`, 2026-05-28."""


def run(*arguments: str, status: int = 0, typed: bytes | None = None) -> Result:
    ran = CliRunner().invoke(app, ["experiments", *arguments], input=typed)
    assert ran.exit_code == status, ran.output
    return ran


@pytest.fixture
def config(tmp_path: Path) -> Path:
    url = f"sqlite:///{tmp_path / 'relay.db'}"
    engine = engine_for(url)
    migrate(engine)
    draw = random.Random(2)
    rows = []
    for number in range(300):
        arm = draw.choice(("now", "new"))
        told = {"experiment": "ab", "arm": arm, "unit": f"{number // 2 * 2 + (arm == 'new'):x}"}
        ttft_us = round(draw.uniform(200_000, 400_000) * (2 if arm == "new" else 1))
        rows.append(
            generation(
                number,
                decision=orjson.dumps(told).decode(),
                admitted_at_us=NOW_US + number,
                ttft_us=ttft_us,
                wall_us=ttft_us * 2,
            )
        )
    write(engine, *rows)
    engine.dispose()
    made = tmp_path / "relay.yaml"
    row = {"wire": "openai_chat", "base_url": "https://a.test/v1", "auth": "none"}
    arms = [{"name": "now", "use": "fast"}, {"name": "new", "use": "a/new"}]
    document = {
        "store": {"url": url},
        "providers": {"a": row},
        "models": {
            name: {"candidates": [{"provider": "a", "model": "m"}]} for name in ("voice", "fast")
        },
        "policies": {
            "experiments": {
                "ab": {"model": "voice", "arms": arms, "sticky": "user", "share": 0.5},
                "alone": {"model": "fast", "arms": arms, "sticky": "none"},
            }
        },
    }
    made.write_text(yaml.safe_dump(document))
    return made


def test_out_of_a_store(config: Path, tmp_path: Path) -> None:
    text = run("report", "-c", str(config), *RANGE).stdout
    assert text.startswith("# Experiments\n")
    assert "## ab" in text
    assert "### new against now" in text
    assert "Units are divided as the weights say" in text
    told = json.loads(run("report", "ab", "-c", str(config), *RANGE, "--format", "json").stdout)
    (one,) = told["experiments"]
    found = one["arms"][1]["metrics"]["ttft_p50"]["difference"]
    assert found["low"] > 200
    assert found["adjusted_p"] < 0.001
    file = tmp_path / "found.json"
    run("report", "-c", str(config), *RANGE, "-o", str(file))
    assert json.loads(file.read_text()) == told


def test_out_of_a_copy_without_a_file_nothing_is_said_of_weights(
    config: Path, tmp_path: Path
) -> None:
    text = run("report", "--database", str(tmp_path / "relay.db"), *RANGE).stdout
    assert "needs the file: -c relay.yaml" in text


def test_out_of_a_log() -> None:
    lines = [
        line(
            [attempt("a/m", first_us=200_000, ended_us=900_000)],
            received_s=number,
            id=f"gen_{number}",
            decision={"experiment": "ab", "arm": ("now", "new")[number % 2], "unit": str(number)},
        )
        for number in range(40)
    ]
    text = run("report", "--from-logs", "-", typed=b"\n".join(lines)).stdout
    assert "| now (control) | 20 | 20 |" in text or "| new (control) | 20 | 20 |" in text


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "-c relay.yaml, --database FILE or --from-logs FILE is needed"),
        (["--from-logs", "x", "--database", "y"], "do not go together"),
        (["--from-logs", "/nowhere/at/all"], "cannot be read"),
        (["--database", "/nowhere/at/all"], "there is no file"),
        (["--from-logs", "x", "--confidence", "100"], "--confidence"),
        (["--from-logs", "x", "--format", "html"], "--format: md, json are expected"),
        (["--from-logs", "x", "--since", "soon"], "--since"),
        (["--from-logs", "x", "--since", "1h", "--until", "2h"], "not before --until"),
    ],
)
def test_faults_name_the_option(arguments: list[str], fault: str) -> None:
    assert fault in run("report", *arguments, status=1).stderr


def test_an_experiment_that_is_not_there(config: Path) -> None:
    told = run("report", "abb", "-c", str(config), *RANGE, status=1).stderr
    assert "there is no answer of an experiment 'abb'; did you mean 'ab'?" in told
    assert "No answer" in run("report", "alone", "-c", str(config), *RANGE).stdout


def test_who_is_in_which_arm(config: Path) -> None:
    found = set()
    for number in range(40):
        told = run("assign", "ab", f"anna-{number}", "-c", str(config), "--json").stdout
        found.add((json.loads(told)["arm"], json.loads(told)["use"]))
    assert found == {("now", "fast"), ("new", "a/new"), (None, "voice")}
    said = run("assign", "ab", "anna", "-c", str(config)).stdout
    assert said == run("assign", "ab", "anna", "-c", str(config)).stdout
    assert said.startswith("anna ")


def test_faults_of_assign(config: Path) -> None:
    assert "did you mean 'ab'?" in run("assign", "abc", "x", "-c", str(config), status=1).stderr
    assert "sticky to nothing" in run("assign", "alone", "x", "-c", str(config), status=1).stderr


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A store with copies of a shadow, half a second slower than their originals, and dearer."""
    file = tmp_path / "copies.db"
    engine = engine_for(f"sqlite:///{file}")
    migrate(engine)
    rows = []
    for number in range(60):
        told = {
            "name": "s",
            "of": f"gen_of_{number}",
            "of_first_content_us": 300_000 + number * 1000,
            "of_wall_us": 900_000,
            "of_cost_micro": 50,
            "of_finish": "STOP",
            "finish": "LENGTH" if number % 6 == 0 else "STOP",
            "chars": 200,
            "of_chars": 100,
            "is_equal": number % 2 == 0,
            "likeness": 0.5,
            **({"same_tools": True} if number % 4 == 0 else {}),
        }
        is_failed = number % 10 == 9
        rows.append(
            generation(
                number,
                surface="shadow",
                decision=orjson.dumps({"shadow": told}).decode(),
                admitted_at_us=NOW_US + number,
                ttft_us=None if is_failed else 800_000 + number * 1000,
                wall_us=1_500_000,
                settled_micro=80,
                reason="CONNECT_FAILED" if is_failed else "",
            )
        )
    write(engine, *rows, generation(99, decision=None, admitted_at_us=NOW_US))
    engine.dispose()
    return file


def test_copies_beside_their_originals(copied: Path) -> None:
    ran = run("shadows", "--database", str(copied), *RANGE, "--format", "json").stdout
    (told,) = json.loads(ran)["shadows"]
    assert (told["shadow"], told["copies"], told["reasons"]) == ("s", 60, {"CONNECT_FAILED": 6})
    values = {name: told[name]["value"] for name in told if name in MEASURES}
    assert values == {
        "failed": 0.1,
        "first_content_ms": 500.0,
        "whole_ms": 600.0,
        "cost_micro": 30.0,
        "same_finish": pytest.approx(44 / 54),
        "same_tools": 1.0,
        "equal": pytest.approx(30 / 54),
        "likeness": 0.5,
        "length_ratio": 2.0,
    }
    assert told["failed"]["low"] < 0.1 < told["failed"]["high"]
    text = run("shadows", "s", "--database", str(copied), *RANGE).stdout
    assert "60 copies, each beside its original" in text
    assert "Failures: CONNECT_FAILED 100.0 %." in text


def test_a_shadow_that_is_not_there(copied: Path, config: Path) -> None:
    told = run("shadows", "z", "--database", str(copied), *RANGE, status=1).stderr
    assert "there is no copy of a shadow 'z'" in told
    assert "No copy is in the range." in run("shadows", "-c", str(config), *RANGE).stdout
    assert "is needed" in run("shadows", status=1).stderr


def test_arms_are_stopped_and_resumed(config: Path) -> None:
    assert "every arm runs" in run("stops", "-c", str(config)).stdout
    assert "is stopped" in run("stop", "ab", "new", "-c", str(config)).stdout
    assert run("stops", "-c", str(config)).stdout.startswith("ab  new  ")
    (row,) = json.loads(run("stops", "-c", str(config), "--json").stdout)
    assert (row["experiment"], row["arm"], row["use"], row["respect"]) == (
        "ab",
        "new",
        "a/new",
        "told",
    )
    assert "runs again" in run("resume", "ab", "new", "-c", str(config)).stdout
    assert "is not stopped" in run("resume", "ab", "new", "-c", str(config), status=1).stderr


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["abb", "new"], "did you mean 'ab'?"),
        (["ab", "newer"], "ab has no arm 'newer'; did you mean 'new'?"),
        (["ab", "now"], "now is the control of ab"),
    ],
)
def test_what_cannot_be_stopped(config: Path, arguments: list[str], fault: str) -> None:
    assert fault in run("stop", *arguments, "-c", str(config), status=1).stderr


def test_without_scipy_it_says_what_is_missing(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [*sys.modules]:
        if name.startswith("relay.observability.experiments."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "scipy", None)
    told = run("report", "-c", str(config), *RANGE, status=1).stderr
    assert "pip install 'rtrelay[experiments]'" in told
