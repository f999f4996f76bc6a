"""Every fuzz target: its seeds and some changes of them in any run, atheris for a moment in
`make test` and ten minutes each in `make nightly` (`RELAY_FULL=1`).

In `make test` each wire gets two seconds and each group of other families three, by a fixed seed: a
change is to fail by what it changed, and looking for news is for the night. `RELAY_FUZZ_SECONDS` is
another length, of either. Recordings are read in place as seeds where the corpus is present; what
is found goes to a temporary directory and is printed.
"""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus.wires import WIRES
from tests.fuzz.families.aws_lines import FRAMES
from tests.fuzz.registry import FAMILIES, find, targets_of
from tests.fuzz.seeds import write_seeds, write_words

IS_FULL = os.environ.get("RELAY_FULL") == "1"
SHORT_RUNS = 600
"""Inputs of a target or group where neither the night nor anybody asked for more."""
ASKED_S = os.environ.get("RELAY_FUZZ_SECONDS")
LONG_S = int(ASKED_S or 600)
CHANGES = 12
"""Of each seed, in a run without atheris."""

needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has no wheel for this machine or this Python",
)

WIRE_TARGETS = [f"codecs/{name}" for name in targets_of("codecs")]
EVERY = [f"{family}/{name}" for family in FAMILIES for name in targets_of(family)]
OTHERS = [name for name in EVERY if not name.startswith("codecs/")]
GROUPS = (
    "streams+vectors+kept+messages",
    "bodies+frames+administration",
    "headers+tokens+credentials",
    "websocket+http",
    "config+importing+policy",
    "guards+audit",
)
"""A process each in a short run: to instrument what is imported takes longer than to look at it."""


def changed(seed: bytes, draw: random.Random) -> bytes:
    """The seed with bytes flipped, cut, doubled or exchanged: what fuzzers do first."""
    made = bytearray(seed)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(made) + 1)
        to = min(len(made), at + draw.randrange(1, 9))
        match draw.randrange(5):
            case 0 if at < len(made):
                made[at] ^= 1 << draw.randrange(8)
            case 1:
                del made[at:to]
            case 2:
                made[at:at] = made[at:to] * draw.randrange(1, 9)
            case 3:
                made[at:to] = draw.choice((b'"', b"\\", b"{", b"[", b"\n", b"\0", b"\xff", b"-1"))
            case _:
                made = made[:at]
    return bytes(made)


@pytest.mark.parametrize("name", EVERY)
def test_seeds_and_what_is_near_them(name: str) -> None:
    target = find(name)
    seeds = list(target.seeds())
    taken = [seed for seed in seeds if target.check(seed)]
    assert taken, "no seed is good: the target says nothing of what is taken"
    draw = random.Random(name)
    for seed in seeds:
        for _ in range(CHANGES):
            target.check(changed(seed, draw))
    target.check(b"")


def test_a_family_is_its_targets_by_their_first_byte() -> None:
    for family in FAMILIES:
        together, apart = find(family), list(targets_of(family).values())
        for at, one in enumerate(apart):
            for seed in one.seeds():
                assert bool(together.check(bytes([at]) + seed)) == bool(one.check(seed))


def test_every_family_is_in_a_group() -> None:
    grouped = [family for group in GROUPS for family in group.split("+")]
    assert sorted([*grouped, "codecs"]) == sorted(FAMILIES)


def link_recordings(name: str, into: Path) -> None:
    """The bodies of a wire's cases, as seeds."""
    wire = name.partition("/")[2]
    if name not in WIRE_TARGETS or wire in FRAMES:
        return
    for case in next(one for one in WIRES if one.name == wire).cases:
        (into / case.name.replace("/", "--")).symlink_to(case.body_path)


@needs_atheris
@pytest.mark.parametrize("name", [*WIRE_TARGETS, *(OTHERS if IS_FULL else GROUPS)])
@pytest.mark.timeout(LONG_S + 120)
def test_atheris_finds_nothing(name: str, tmp_path: Path) -> None:
    write_seeds(name, tmp_path / "seeds")
    link_recordings(name, tmp_path / "seeds")
    write_words(name, tmp_path / "words")
    (tmp_path / "found").mkdir()
    is_long = IS_FULL or ASKED_S is not None
    seconds = LONG_S if is_long else 2 if name in WIRE_TARGETS else 3
    command = [sys.executable, "-m", "tests.fuzz.target", name, f"-max_total_time={seconds}"]
    command += ["-max_len=16384", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/"]
    command += [f"-dict={tmp_path / 'words'}", "-timeout=10", "-rss_limit_mb=1024"]
    if not is_long:  # a change is to fail by what it changed, on a quick machine as on a slow one
        command += ["-seed=1", f"-runs={SHORT_RUNS}"]
    done = subprocess.run(
        [*command, str(tmp_path / "found"), str(tmp_path / "seeds")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert "number_of_executed_units" in done.stderr
