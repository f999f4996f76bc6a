"""`python -m bench.replay WORLD...`: some worlds of `hedge_tail` alone, as a table.

One process: for a machine that others use.
"""

from __future__ import annotations

import argparse

from bench.replay import report, worlds


def main() -> None:
    """Run what is named."""
    parser = argparse.ArgumentParser(prog="python -m bench.replay", description=__doc__)
    parser.add_argument("worlds", nargs="+", choices=worlds.NAMES, metavar="WORLD")
    parser.add_argument("--requests", type=int, default=report.FULL)
    given = parser.parse_args()
    for name in given.worlds:
        rows = [
            row
            for arm in (None, *report.PLAN[name])
            for row in report.job(name, arm, given.requests)
        ]
        print(f"--- {name}\n{report.arm_table(rows)}", flush=True)


if __name__ == "__main__":
    main()
