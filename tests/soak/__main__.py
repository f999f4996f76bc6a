"""`python -m tests.soak --minutes 2 --report DIR`; exits 1 where a figure is missed."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from tests.soak.plan import Plan
from tests.soak.report import markdown, picture, write
from tests.soak.run import soak


def main() -> int:
    plain = Plan(minutes=2)
    parser = argparse.ArgumentParser(prog="tests.soak", description="a relay under everything")
    parser.add_argument("--minutes", type=float, default=plain.minutes)
    parser.add_argument("--workers", type=int, default=plain.workers)
    parser.add_argument("--rate", type=float, default=plain.rate_per_s, help="requests a second")
    parser.add_argument("--seed", type=int, default=plain.seed)
    parser.add_argument("--report", type=Path, help="folder for soak.md and soak.svg")
    given = parser.parse_args()
    plan = Plan(given.minutes, given.workers, given.seed, given.rate)
    with tempfile.TemporaryDirectory(prefix="rtrelay-soak-") as folder:
        run = asyncio.run(soak(plan, Path(folder), lambda line: print(line, flush=True)))
    text = markdown(plan, run.figures, run.tally.outcomes, run.tally.wrong, run.happened)
    print(text)
    if given.report is not None:
        write(given.report, text, picture(run.samples, run.happened))
    return 0 if run.holds else 1


if __name__ == "__main__":
    sys.exit(main())
