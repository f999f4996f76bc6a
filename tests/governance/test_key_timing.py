"""Nobody learns by the clock which ids there are: all refusals take one time.

As dudect does (Reparaz, Balasch, Verbauwhede 2017): two classes in random turns, the slowest tenth
of all left out, Welch's t. The long form (RELAY_FULL=1) takes 10^5 samples a class and wants
|t| < 4; the short one only sees gross differences, on machines that are busy. That the same is done
for all is counted in `test_directory`.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import string
import time
from typing import Any

import pytest

from relay.errors import Unauthenticated
from relay.governance.directory import Directory
from relay.governance.token_text import Minted
from tests.fakes.keys import (
    NOW_US,
    PEPPERS,
    credential_row,
    key_row,
    organisation_row,
    team_row,
    whole,
)
from tests.fakes.properties import IS_FULL

SAMPLES = 100_000 if IS_FULL else 3_000
KEYS = SAMPLES
"""So that each is asked for once: where one lies in memory is its own luck, not its class's."""
MAX_T = 4.0
GROSS = 0.1
"""Of the median; a look at a database, or a MAC that is left out, is far more."""
pytestmark = [pytest.mark.timeout(600 if IS_FULL else 60), pytest.mark.bench]


draw = random.Random(7)


def some() -> Minted:
    """As `mint` makes them, faster."""
    letters = string.ascii_letters + string.digits
    return Minted(
        "virtual key", "".join(draw.choices(letters, k=16)), "".join(draw.choices(letters, k=43))
    )


def wrong(minted: Minted) -> str:
    """The same id with another secret."""
    return Minted(minted.kind, minted.id, some().secret).text


def refuse_ns(directory: Directory, bearer: str) -> int:
    began_ns = time.perf_counter_ns()
    try:
        directory.identify(bearer, NOW_US)
    except Unauthenticated:
        return time.perf_counter_ns() - began_ns
    raise AssertionError("it was let in")


def t_of(one: list[int], other: list[int]) -> float:
    variances = [statistics.pvariance(times) / len(times) for times in (one, other)]
    return (statistics.fmean(one) - statistics.fmean(other)) / math.sqrt(sum(variances))


@pytest.mark.parametrize("kind", ["known id", "revoked", "expired"])
def test_no_class_of_refusals_can_be_told_from_unknown_ids(kind: str) -> None:
    minted = [some() for _ in range(KEYS)]
    rows_of: dict[str, dict[str, Any]] = {
        "known id": {},
        "revoked": {"is_revoked": True},
        "expired": {"expires_at_us": NOW_US - 1},
    }
    directory = Directory(PEPPERS, time.monotonic, behind_s=math.inf)
    rows = [credential_row(one, **rows_of[kind]) for one in minted]
    directory.apply(whole(organisation_row(), team_row(), key_row(), *rows), time.monotonic())
    # Whoever asks with a good secret of a key that was revoked knows its id; so do we here.
    make = wrong if kind == "known id" else lambda one: one.text
    strangers = [some() for _ in range(KEYS)]
    texts = [(0, make(one)) for one in minted] + [(1, wrong(one)) for one in strangers]
    draw.shuffle(texts)
    classes: tuple[list[str], list[str]] = ([], [])
    for which, text in texts:  # one beside the other in memory too
        classes[which].append(text.encode().decode())
    times: tuple[list[int], list[int]] = ([], [])
    turns = [(at, n) for at in (0, 1) for n in range(SAMPLES)]
    draw.shuffle(turns)
    for bearer in (*classes[0], *classes[1]):
        refuse_ns(directory, bearer)  # the first try puts aside what may not call
    gc.disable()
    try:
        for which, pick in turns:
            times[which].append(refuse_ns(directory, classes[which][pick]))
    finally:
        gc.enable()
    crop = statistics.quantiles([*times[0], *times[1]], n=10)[-1]
    known, unknown = ([ns for ns in each if ns <= crop] for each in times)
    t = t_of(known, unknown)
    medians = statistics.median(known), statistics.median(unknown)
    print(f"{kind}: {medians[0]:.0f} ns against {medians[1]:.0f} ns, t = {t:.2f}")
    assert abs(medians[0] - medians[1]) < GROSS * medians[1]
    # One that has expired leaves a trace of some 45 ns where it was put aside, for those to see who
    # have its secret already.
    if IS_FULL and kind != "expired":
        assert abs(t) < MAX_T
