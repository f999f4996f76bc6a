"""`python -m bench.cascade`: what each way to escalate costs and brings, as a table.

One process, a simulated clock, the cascade that serves; see `world` for what is stated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from bench.cascade.arms import ARMS, Tally, alone, run
from bench.cascade.world import JUDGE, LARGE, SMALL, Model, questions

_HEAD = (
    f"| {'':<31} | right | $ / 1000 | of large | escalated | false | missed | TTFT p50 | p99 |"
    " p50 escalated | wasted |"
)


def main() -> None:
    """Run all arms, or those that are named."""
    parser = argparse.ArgumentParser(prog="python -m bench.cascade", description=__doc__)
    parser.add_argument("arms", nargs="*", metavar="ARM", help=f"of {', '.join(ARMS)}")
    parser.add_argument("--requests", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for name in given.arms:
        if name not in ARMS:
            parser.error(f"there is no arm {name!r}")
    for model in (SMALL, LARGE, JUDGE):
        print(_stated(model))
    for is_json in (False, True):
        asked = questions(given.requests, given.seed, is_json=is_json)
        print(f"\n{len(asked)} tasks" + (", answers in JSON" if is_json else ""))
        print(_HEAD, "|" + "---|" * 11, sep="\n")
        large = alone("large", asked, given.seed)
        for tally in (alone("small", asked, given.seed), large):
            print(_row(tally, large.cost), flush=True)
        for name in given.arms or (["refusal (default)"] if is_json else ARMS):
            print(_row(run(name, asked, given.seed), large.cost), flush=True)


def _stated(model: Model) -> str:
    return (
        f"{model.name}: {model.published}, ${model.input:g} / ${model.output:g} per million;"
        f" wrong {model.wrong:.0%}, of hard ones {model.wrong_hard:.0%}; refuses"
        f" {model.refuses:.0%}; breaks JSON {model.breaks_json:.0%}"
    )


def _row(tally: Tally, large_cost: float) -> str:
    count = len(tally.ttft_s)
    ordered = sorted(tally.ttft_s)
    return (
        f"| {tally.name:<31} | {tally.right / count:.1%} | {tally.cost / count / 1000:.3f}"
        f" | {tally.cost / large_cost:.0%} | {tally.escalated / count:.1%}"
        f" | {_share(tally.false, tally.escalated)} | {_share(tally.missed, count)}"
        f" | {_at(ordered, 0.5)} | {_at(ordered, 0.99)}"
        f" | {_at(sorted(tally.late_s), 0.5)} | {tally.wasted / large_cost:.1%} |"
    )


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole and part else "-"


def _at(ordered: Sequence[float], share: float) -> str:
    if not ordered:
        return "-"
    return f"{1e3 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]:.0f} ms"


if __name__ == "__main__":
    main()
