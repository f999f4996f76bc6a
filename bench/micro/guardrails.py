"""CPU of guarding streamed text: a token, a first token, a whole prompt, and texts made to cost.

    python -m bench.micro.guardrails [--hostile]

A token is a word of English prose with the space in front of it, fed by itself, as providers stream
them. `off` is the same loop with no guard. Held back are the characters that are not released with
their own token: what that is in time is the provider's time between two tokens. Best of several
rounds; microseconds, and milliseconds where it says so. `--hostile` needs the tests of this
repository beside it, and takes a minute.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Sequence
from typing import Final

from relay.guardrails.denied import DeniedTerms
from relay.guardrails.guard_plan import GuardPlan
from relay.guardrails.injection import injection_scanners
from relay.guardrails.patterns import OwnPattern
from relay.guardrails.pii import DEFAULT_KINDS, PII_KINDS, pii_scanners
from relay.guardrails.scan import Rule, Scanner
from relay.guardrails.secrets import secret_scanners
from relay.guardrails.text_guard import TextGuard

_PROSE: Final = (
    "Sure, I can help you with that. Your order left our warehouse in Leipzig on Tuesday, and the "
    "carrier expects to deliver it tomorrow between 10 and 12. If you are not at home, a neighbour "
    "can take it, or you choose another day. Is there anything else that I can do for you? You may "
    "also ask me about the return of the shoes: it's free within 30 days, as long as they have not "
    "been worn outside. "
) * 5
_TOKENS: Final = re.findall(r"\s?\w+|[^\w\s]|\s", _PROSE)
_ROUNDS: Final = 7


def _terms(count: int) -> DeniedTerms:
    return DeniedTerms([f"codeword{at:x} of project {at % 97}" for at in range(count)])


def _sets() -> dict[str, list[Scanner]]:
    kinds = tuple(kind for kind in DEFAULT_KINDS if kind != "email")
    return {
        "secrets": list(secret_scanners()),
        "pii_without_email": pii_scanners(kinds),
        "pii": pii_scanners(),
        "pii_email_domain": pii_scanners((*kinds, "email_domain")),
        "pii_all": pii_scanners(PII_KINDS, region="DE"),
        "denied_5000": [_terms(5000)],
        "own_pattern": [OwnPattern("order", r"\bORD-\d{6,8}\b")],
        "injection": list(injection_scanners()),
        "literal_and_regex": [
            *secret_scanners(),
            *pii_scanners(kinds),
            _terms(5000),
            OwnPattern("order", r"\bORD-\d{6,8}\b"),
            *injection_scanners(),
        ],
        "everything": [
            *secret_scanners(),
            *pii_scanners(PII_KINDS, region="DE"),
            _terms(5000),
            OwnPattern("order", r"\bORD-\d{6,8}\b"),
            *injection_scanners(),
        ],
    }


def _plan(scanners: Sequence[Scanner]) -> GuardPlan:
    return GuardPlan(
        [
            Rule(one, "flag" if one.name.startswith("injection") else "redact", "g")
            for one in scanners
        ]
    )


def best_us(run: Callable[[], object]) -> float:
    """Of some rounds."""
    best = float("inf")
    for _ in range(_ROUNDS):
        begin = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - begin)
    return best * 1e6


def _stream(feed: Callable[[str], str]) -> None:
    for token in _TOKENS:
        feed(token)


def _first_us(plan: GuardPlan, token: str) -> float:
    def run() -> None:
        for _ in range(100):
            TextGuard(plan).feed(token)

    return best_us(run) / 100


def _held(plan: GuardPlan) -> tuple[float, float, int]:
    """Share of tokens after which something is held, its mean and its most, in characters."""
    guard = TextGuard(plan)
    held = []
    for token in _TOKENS:
        guard.feed(token)
        held.append(guard.held_chars)
    return sum(map(bool, held)) / len(held), sum(held) / len(held), max(held)


def measure() -> dict[str, dict[str, float]]:
    """Every set of scanners by name."""
    off = best_us(lambda: _stream(str)) / len(_TOKENS)
    rows: dict[str, dict[str, float]] = {}
    for name, scanners in _sets().items():
        begin = time.perf_counter()
        plan = _plan(scanners)
        built_ms = (time.perf_counter() - begin) * 1e3
        begin = time.perf_counter()
        _stream(TextGuard(plan).feed)
        cold = (time.perf_counter() - begin) * 1e6 / len(_TOKENS)
        share, mean, most = _held(plan)
        rows[name] = {
            "token_us": best_us(lambda plan=plan: _stream(TextGuard(plan).feed)) / len(_TOKENS),  # type: ignore[misc]
            "off_us": off,
            "cold_token_us": cold,
            "first_token_us": _first_us(plan, "Sure"),
            "held_share": share,
            "held_mean_chars": mean,
            "held_most_chars": float(most),
            "whole_8k_ms": best_us(lambda plan=plan: TextGuard(plan).feed(_PROSE * 4)) / 1e3,  # type: ignore[misc]
            "build_ms": built_ms,
        }
    return rows


def hostile(chars: int = 1 << 20) -> dict[str, float]:
    """Seconds of CPU for a text of so many characters of each kind, with every scanner on."""
    from tests.guardrails.hostile_texts import HOSTILE
    from tests.guardrails.hostile_texts import hostile as text_of

    plan = _plan(_sets()["everything"])
    found = {}
    for name in HOSTILE:
        text = text_of(name, chars)
        guard = TextGuard(plan)
        begin = time.process_time()
        guard.feed(text)
        guard.finish()
        found[name] = time.process_time() - begin
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hostile", action="store_true", help="1 MiB of texts made to cost")
    if parser.parse_args().hostile:
        for name, took_s in sorted(hostile().items(), key=lambda each: -each[1]):
            print(f"{name:20} {took_s:8.2f} s of CPU for 1 MiB")
        return
    for name, row in measure().items():
        print(name)
        for key, value in row.items():
            print(f"    {key:18} {value:10.2f}")


if __name__ == "__main__":
    main()
