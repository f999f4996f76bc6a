"""`relay replay`: what another policy would have done, from log lines of our own."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from relay.cli import app
from relay.commands.replay import Answer, Answers, ReplayError, answer, replay
from relay.config import parse
from relay.routing.catalog import Catalog
from relay.whatif.draws import Draws
from relay.whatif.figures import of_log, of_replay
from relay.whatif.recorded import read_log
from relay.whatif.simulation import simulate
from tests.fakes.log_lines import attempt, line

PRICES = {"m": {"input": 1.0, "output": 4.0}}


def document(*names: str, hedge: dict[str, Any] | None = None, **alias: Any) -> dict[str, Any]:
    """A policy: these providers, in this order, behind `fast`; each also has a name of its own."""
    listed = names or ("a", "b")
    return {
        "providers": {
            name: {
                "wire": "openai_chat",
                "base_url": f"https://{name}.test/v1",
                "api_key": "${A_KEY_THAT_IS_NOT_SET}",
                "cancel_billing": "stops",
                "prices": PRICES,
            }
            for name in listed
        },
        "models": {
            "fast": {
                "candidates": [{"provider": name, "model": "m"} for name in listed],
                "hedge": hedge or {"mode": "disabled"},
                **alias,
            }
        },
    }


def catalog(*names: str, **more: Any) -> Catalog:
    return Catalog(parse(document(*names, **more), {"A_KEY_THAT_IS_NOT_SET": "x"}))


def direct(target: str, times_s: list[float], begin_s: float = 0.0) -> list[bytes]:
    """Requests for a target by its own name, two a second."""
    return [
        line(
            [
                attempt(
                    target,
                    first_us=round(time_s * 1e6),
                    cost_micro_usd=14.0,
                    cost_upper_micro_usd=14.0,
                )
            ],
            received_s=begin_s + at / 2,
            asked=target,
            prompt_tokens=10,
        )
        for at, time_s in enumerate(times_s)
    ]


def asked(times_s: list[float], begin_s: float = 1000.0, **more: Any) -> list[bytes]:
    """Requests for the alias that `a` answered, two a second."""
    return [
        line(
            [
                attempt(
                    "a/m",
                    started_us=250,
                    first_us=round(s * 1e6),
                    cost_micro_usd=14.0,
                    cost_upper_micro_usd=14.0,
                )
            ],
            received_s=begin_s + at / 2,
            prompt_tokens=10,
            **more,
        )
        for at, s in enumerate(times_s)
    ]


def tail(count: int, seed: int = 0) -> list[float]:
    """Times with a heavy tail: 0.2 s, one in ten 1 s, one in fifty 3 s."""
    draw = random.Random(seed)
    return [
        draw.choices((0.2, 1.0, 3.0), (88, 10, 2))[0] * draw.uniform(0.9, 1.1) for _ in range(count)
    ]


def answers(lines: list[bytes], policy: Catalog, **more: Any) -> Answers:
    return answer(policy, read_log(lines), **{"alias": None, "runs": 1, "seed": 0, **more})


def the_one(found: Answers) -> Answer:
    (one,) = found.answers
    return one


# --- a policy that changes nothing ----------------------------------------------------------


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1_000, 9_000_000),  # first content, us
            st.integers(0, 3_000),  # before the race, us
            st.integers(0, 5_000),  # since the request before, ms
            st.sampled_from(["ready", "ready", "ready", "lost", "failed", "left"]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_without_hedging_the_record_is_reproduced(
    rows: list[tuple[int, int, int, str]],
) -> None:
    lines, received_s = [], 0.0
    for first_us, before_us, gap_ms, kind in rows:
        received_s += gap_ms / 1000
        first = attempt("a/m", started_us=before_us, first_us=first_us)
        if kind == "lost":  # beside it ran one that lost; the policy will not send it
            more = attempt("b/m", "hedge", "lost", started_us=before_us, ended_us=before_us + 1)
            lines.append(line([first, more], received_s=received_s))
        elif kind == "failed":
            error = attempt(
                "a/m",
                outcome="failure",
                reason="UPSTREAM_REJECTED",  # nobody else would take it either
                started_us=before_us,
                ended_us=before_us + first_us,
            )
            lines.append(line([error], received_s=received_s, status="INVALID_ARGUMENT"))
        elif kind == "left":  # one that was waited for is there to draw from
            error = attempt(
                "a/m", outcome="ignored", started_us=before_us, ended_us=before_us + 2_000
            )
            lines.append(line([error], received_s=received_s, status="CANCELLED"))
        else:
            lines.append(line([first], received_s=received_s))
    known = direct("a/m", [10.0] * 100, begin_s=received_s + 100)
    log = read_log([*lines, *known])
    policy = catalog(timeouts={"first_token_ms": 60_000})
    replayed = [
        one
        for one in simulate(policy, log.requests, Draws(log.requests))
        if one.recorded.asked == "fast"
    ]
    recorded = [one for one in log.requests if one.asked == "fast"]
    assert [one.ttft_s for one in replayed] == [one.ttft_s for one in recorded]
    was, now = of_log(recorded), of_replay(replayed)
    for name in ("requests", "answered", "left", "p50_s", "p95_s", "p99_s", "p999_s", "dead_air"):
        before, after = getattr(was, name), getattr(now, name)
        assert before == after or (math.isnan(before) and math.isnan(after)), name
    assert now.hedges == 0.0


def test_the_replay_of_a_replay_is_the_same() -> None:
    lines = [*direct("b/m", tail(150)), *asked(tail(400, 1))]
    policy = catalog(hedge={"mode": "active"})
    log = read_log(lines)
    draws = Draws(log.requests)

    def times(seed: int) -> list[float | None]:
        return [one.ttft_s for one in simulate(policy, log.requests, draws, seed=seed)]

    assert times(1) == times(1)
    assert times(1) != times(2)


# --- hedging --------------------------------------------------------------------------------


def test_a_hedge_is_fired_at_the_fixed_delay_and_the_rest_is_arithmetic() -> None:
    lines = [*direct("b/m", [0.3] * 120), *asked([0.2] * 95 + [3.0] * 5)]
    one = the_one(answers(lines, catalog(hedge={"mode": "active", "delay": 500})))
    assert one.before.p99_s == pytest.approx(3.00025)
    # Half a second, then the other's 0.3 s; the credit is there for ten.
    assert one.after.p99_s == pytest.approx(0.80025)
    assert one.after.p50_s == one.before.p50_s == pytest.approx(0.20025)
    assert (one.before.dead_air, one.after.dead_air) == (0.05, 0.0)
    assert (one.before.hedges, one.after.hedges) == (0.0, 0.05)
    # Each answer 10 + 4 micro-dollars, and five losers that had only read their prompt.
    assert one.before.cost == pytest.approx(100 * 14e-6)
    assert one.after.cost == pytest.approx(100 * 14e-6 + 5 * 10e-6)
    assert one.after.cost_upper == pytest.approx(100 * 14e-6 + 5 * (10 + 4 * 300) * 1e-6)


def test_the_budget_holds() -> None:
    lines = [*direct("b/m", [0.3] * 120), *asked([0.2, 0.2, 0.2, 0.2, 3.0] * 200)]
    hedge = {"mode": "active", "delay": 500, "max_extra_requests": 0.05}
    one = the_one(answers(lines, catalog(hedge=hedge)))
    assert 0.04 < one.after.hedges <= 0.061  # and the ten that are credit at the start


def test_shadow_sends_nothing() -> None:
    lines = [*direct("b/m", [0.3] * 120), *asked([0.2] * 95 + [3.0] * 5)]
    one = the_one(answers(lines, catalog(hedge={"mode": "shadow", "delay": 500})))
    assert one.after.hedges == 0.0
    assert one.after.p99_s == one.before.p99_s


def test_a_log_of_a_relay_that_hedged_can_be_asked_what_it_was_without() -> None:
    hedged = [
        line(
            [
                attempt("a/m", outcome="lost", ended_us=800_000),
                attempt("b/m", "hedge", started_us=500_000, first_us=300_000),
            ],
            received_s=1000 + 10 * at,  # among the others: in a row they would trip the breaker
        )
        for at in range(10)
    ]
    lines = [*asked(([0.2] * 19 + [2.0]) * 10), *hedged]
    one = the_one(answers(lines, catalog()))
    assert one.before.hedges == pytest.approx(10 / 210)
    assert one.after.hedges == 0.0
    # Left at 0.8 s, they are as long as what the target takes beyond: 2 s.
    assert one.after.dead_air == pytest.approx(20 / 210)


def test_a_failover_is_drawn_from_the_other() -> None:
    failed = [
        line(
            [attempt("a/m", outcome="failure", ended_us=100_000, reason="UPSTREAM_FAILED")],
            received_s=2000 + 10 * at,
            status="UNAVAILABLE",
        )
        for at in range(3)
    ]
    lines = [*direct("b/m", [0.3] * 120), *asked([0.2] * 97), *failed]
    one = the_one(answers(lines, catalog()))
    assert (one.before.answered, one.after.answered) == (97, 100)
    assert one.after.failovers == 0.03
    assert one.after.p999_s == pytest.approx(0.4, rel=0.01)


def test_who_was_not_first_can_be_first() -> None:
    lines = [*direct("b/m", [0.1] * 120), *asked([0.2] * 100)]
    one = the_one(answers(lines, catalog("b", "a")))
    assert one.after.p50_s == pytest.approx(0.10025)


def test_a_first_token_limit_is_kept() -> None:
    lines = [
        *direct("b/m", [0.3] * 120),
        *asked([0.2] * 95 + [3.0] * 5, wish={"first_token_s": 1.0}),
    ]
    one = the_one(answers(lines, catalog()))
    assert one.after.answered == 95
    hedged = the_one(answers(lines, catalog(hedge={"mode": "active", "delay": 500})))
    assert hedged.after.answered == 100


# --- what cannot be said --------------------------------------------------------------------


def test_a_target_that_is_not_known_is_refused() -> None:
    lines = [*direct("b/m", [0.3] * 99), *asked([0.2] * 95 + [3.0] * 5)]
    with pytest.raises(ReplayError, match="99 first tokens of b/m"):
        answers(lines, catalog(hedge={"mode": "active", "delay": 500}))
    assert the_one(answers(lines, catalog())).after.answered == 100  # which does not ask it


def test_an_unknown_price_is_not_nothing() -> None:
    policy = document()
    del policy["providers"]["a"]["prices"]
    found = Catalog(parse(policy, {"A_KEY_THAT_IS_NOT_SET": "x"}))
    assert math.isnan(the_one(answers(asked([0.2] * 10), found)).after.cost)


@pytest.mark.parametrize(
    ("lines", "alias", "text"),
    [
        ([], None, "no generation in the log"),
        (direct("a/m", [0.2]), None, "nobody asked for an alias of the policy"),
        (asked([0.2]), "slow", "no alias 'slow'"),
    ],
)
def test_what_is_missing_is_said(lines: list[bytes], alias: str | None, text: str) -> None:
    with pytest.raises(ReplayError, match=text):
        answers(lines, catalog(), alias=alias)


# --- the command ----------------------------------------------------------------------------


def ran(tmp_path: Path, lines: list[bytes], policy: dict[str, Any], *arguments: str) -> Any:
    log, path = tmp_path / "relay.log", tmp_path / "new.yaml"
    log.write_bytes(b"\n".join([b"Listening", *lines]))
    path.write_text(yaml.safe_dump(policy))
    return CliRunner().invoke(
        app,
        ["replay", "--policy", str(path), "--from", str(log), *arguments],
        env={"COLUMNS": "160"},
    )


LINES = [*direct("b/m", [0.3] * 120), *asked([0.2] * 95 + [3.0] * 5), line([], received_s=1)]
POLICY = document(hedge={"mode": "active", "delay": 500})


def test_it_prints_a_table_and_what_it_rests_on(tmp_path: Path) -> None:
    done = ran(tmp_path, LINES, POLICY)
    assert done.exit_code == 0
    assert "fast: 100 requests, 100 answered" in done.stdout
    row = next(text for text in done.stdout.splitlines() if "first token p99, s" in text)
    assert [cell.strip() for cell in row.split("│")[2:6]] == [
        "3.000",
        "0.800",
        "-73.3 %",
        "0.800 .. 0.800",
    ]
    for text in ("b/m: 120 first tokens", "nothing learnt", "1 generations say nothing"):
        assert text in done.stdout


def test_it_gives_json(tmp_path: Path) -> None:
    done = ran(tmp_path, LINES, POLICY, "--json", "--runs", "2", "--alias", "fast")
    found = json.loads(done.stdout)
    assert found["aliases"]["fast"]["after"]["p99_s"] == pytest.approx(0.80025)
    assert found["targets"]["b/m"]["first_tokens"] == 120
    assert found["runs"] == 2
    assert found["assumptions"]


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (
            asked([0.2] * 95 + [3.0] * 5),
            "the log has 0 first tokens of b/m, and this policy would ask it where it was not"
            " asked: send it at least 100 requests by its own name, such as model b/m (relay chat"
            " --model b/m, or any client), or leave it out of the policy\n",
        ),
        ([], "--from {log}: there is no generation in the log (it is what `relay serve` writes"),
        (
            [line([], received_s=1)],
            "--from {log}: there is no generation in the log; 1 say nothing",
        ),
    ],
)
def test_it_refuses_in_a_line(tmp_path: Path, lines: list[bytes], text: str) -> None:
    done = ran(tmp_path, lines, POLICY)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith(f"relay: {text.format(log=tmp_path / 'relay.log')}")
    assert done.stderr.count("\n") == 1


def test_the_file_that_is_wrong_is_named(tmp_path: Path) -> None:
    right, log = tmp_path / "new.yaml", tmp_path / "relay.log"
    right.write_text(yaml.safe_dump(POLICY))
    log.write_bytes(b"\n".join(LINES))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("models: {fast: {hedge: {delay: 250ms, max_extra_requests: 5%}}, x: 1}")
    for policy, one_log, told in (
        (right, "none.log", ["--from none.log: cannot be read: No such file or directory"]),
        (right, str(tmp_path), [f"--from {tmp_path}: cannot be read: Is a directory"]),
        (
            Path("none.yaml"),
            str(log),
            ["--policy none.yaml: cannot read none.yaml: No such file or directory"],
        ),
        (
            wrong,
            str(log),
            [
                f"--policy {wrong}: models.fast.candidates: is required",
                f"--policy {wrong}: models.fast.hedge.delay: auto, or whole milliseconds such as"
                " 250",
                f"--policy {wrong}: models.fast.hedge.max_extra_requests: a share such as 0.05,"
                " from 0 to 1",
            ],
        ),
        (log, str(right), [f"--policy {log}: relay.log is no valid YAML"]),
    ):
        done = CliRunner().invoke(app, ["replay", "--policy", str(policy), "--from", one_log])
        assert (done.exit_code, done.stdout) == (1, "")
        lines = done.stderr.removeprefix("relay: ").splitlines()
        for line_of_it, text in zip(lines, told, strict=False):
            assert line_of_it.startswith(text)
        assert len(lines) >= len(told)


@pytest.mark.parametrize(
    ("lines", "mode", "note"),
    [
        (LINES, "active", ""),
        (LINES, "shadow", "fast: a policy of `mode: shadow` sends no hedges, so hedging changes"),
        (LINES, "disabled", "fast: a policy of `mode: disabled` sends no hedges, so hedging"),
        # What was it without them?
        (
            [
                line(
                    [
                        attempt("a/m", outcome="lost", ended_us=800_000),
                        attempt("b/m", "hedge", started_us=500_000, first_us=300_000),
                    ],
                    received_s=10.0,
                ),
                *LINES,
            ],
            "disabled",
            "",
        ),
    ],
)
def test_a_policy_that_sends_no_hedges_is_told(
    tmp_path: Path, lines: list[bytes], mode: str, note: str
) -> None:
    policy = document(hedge={"mode": mode, "delay": 500})
    done = ran(tmp_path, [*direct("a/m", [5.0] * 100, 5000.0), *lines], policy, "--json")
    notes = json.loads(done.stdout)["notes"]
    assert [text[: len(note)] for text in notes] == ([note] if note else [])
    shown = ran(tmp_path, [*direct("a/m", [5.0] * 100, 5000.0), *lines], policy).stdout
    shown = " ".join(shown.split())  # however wide the console is
    assert (f"note: {note}" in shown) == bool(note)
    assert ("`mode: active` is what to ask for" in shown) == bool(note)


# --- what is not set here -------------------------------------------------------------------


def test_no_pepper_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RTRELAY_PEPPER", raising=False)
    policy, log = tmp_path / "relay.yaml", tmp_path / "relay.log"
    auth = {"auth": {"pepper": "${RTRELAY_PEPPER}"}, "store": {"url": "sqlite:///relay.db"}}
    policy.write_text(yaml.safe_dump(document("a") | auth))
    log.write_bytes(b"\n".join(asked(tail(120))))
    assert replay(policy, [log], alias=None, runs=1, seed=0).answers


def test_a_variable_that_no_word_can_stand_for_is_told_as_unset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    policy = tmp_path / "relay.yaml"
    policy.write_text(yaml.safe_dump(document("a") | {"store": {"url": "${DATABASE_URL}"}}))
    with pytest.raises(ReplayError, match="variable DATABASE_URL is not set"):
        replay(policy, [], alias=None, runs=1, seed=0)
