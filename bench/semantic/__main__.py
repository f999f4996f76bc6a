"""The figures of docs/semantic-cache.md.

    python -m bench.semantic                       # the labelled set, and look-ups at three sizes
    python -m bench.semantic set                   # hit rate and false hits alone: seconds
    python -m bench.semantic speed                 # look-ups at 1,000, 10,000 and 100,000 entries
    python -m bench.semantic --onnx DIRECTORY      # with a sentence model beside wordllama
    python -m bench.semantic set --pairs FILE      # turns of one's own, as in families.txt, or JSON
                                                   # lines of a, b, same_answer and category

Needs the extra `semantic`; `--onnx` needs `semantic-onnx`.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.semantic.pairs import FILE, Pair, others_pairs, pairs
from bench.semantic.roc import GUARDS, THRESHOLDS, Scored, area, rates, score
from bench.semantic.speed import measured, price_of_parts
from relay.cache.embed_wordllama import WordllamaEmbedder

SIZES = (1_000, 10_000, 100_000)
HALVES = ("tuning", "held-out")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.semantic")
    parser.add_argument("what", nargs="?", choices=("all", "set", "speed"), default="all")
    parser.add_argument("--onnx", type=Path, help="directory of model.onnx and tokenizer.json")
    parser.add_argument("--pairs", type=Path, default=FILE, help="turns of one's own")
    parser.add_argument("--quick", action="store_true", help="up to 10,000 entries")
    parser.add_argument("--entries", type=int, action="append", help="a size instead; again")
    given = parser.parse_args()
    embedders: list[Any] = []
    if given.onnx is not None:  # first: onnxruntime crashes behind usearch
        from relay.cache.embed_onnx import OnnxEmbedder

        embedders.append(OnnxEmbedder.load(given.onnx))
    embedders.insert(0, WordllamaEmbedder.load())
    if given.what in ("all", "set"):
        text = given.pairs.read_text("utf-8")
        found = list(others_pairs(text) if given.pairs.suffix == ".jsonl" else pairs(text))
        for embedder in embedders:
            told(embedder, score(found, embedder.embed))
        price_of_set(found)
    if given.what in ("all", "speed"):
        for embedder in embedders:
            speeds(embedder, given.entries or (SIZES[:2] if given.quick else SIZES))
    return 0


def told(embedder: Any, scored: list[Scored]) -> None:
    """Tables of one embedder, per half."""
    default = embedder.default_threshold
    for half in HALVES:
        rows = [row for row in scored if row.pair.half == half]
        if not rows:
            continue
        print(f"\n## {embedder.name}, {half}: {len(rows)} pairs, AUC {area(rows):.2f}\n")
        print("| threshold | " + " | ".join(f"{guard or 'no guard'}" for guard in GUARDS) + " |")
        print("|---" * (len(GUARDS) + 1) + "|")
        for threshold in THRESHOLDS:
            cells = []
            for guard in GUARDS:
                found = rates(rows, threshold, guard)
                cells.append(
                    f"{found.hit_rate:.1%} hits, {found.false} of {found.different} false"
                    f" ({found.false_rate:.1%})"
                )
            mark = " (default)" if threshold == default else ""
            print(f"| {threshold:.2f}{mark} | " + " | ".join(cells) + " |")
        print(f"\nFalse hits by kind at {default:.2f}:\n")
        print("| kind | pairs | " + " | ".join(str(guard or "no guard") for guard in GUARDS) + " |")
        print("|---" * (len(GUARDS) + 2) + "|")
        different = [row for row in rows if not row.pair.is_same]
        for kind, count in sorted(Counter(row.pair.kind for row in different).items()):
            mine = [row for row in different if row.pair.kind == kind]
            cells = [str(rates(mine, default, guard).false) for guard in GUARDS]
            print(f"| {kind} | {count} | " + " | ".join(cells) + " |")


def price_of_set(found: list[Pair]) -> None:
    """How many of the set's own turns would be answered: each pair once, asked in turn."""
    counts = Counter((pair.half, pair.kind) for pair in found)
    print("\nPairs by kind: " + ", ".join(
        f"{kind} {counts['tuning', kind]} + {counts['held-out', kind]}"
        for kind in sorted({pair.kind for pair in found})
    ))  # fmt: skip


def speeds(embedder: Any, sizes: Sequence[int]) -> None:
    """Tables of look-ups."""
    print(f"\n## {embedder.name}: one look-up, its parts\n")
    for name, took_us in price_of_parts(embedder, "How do I reset my password, please?").items():
        print(f"- {name}: {took_us:.0f} us")
    print(f"\n## {embedder.name}: look-ups, milliseconds, p50 / p99 (CPU of the loop p50 / p99)\n")
    print("| entries | hit | miss | keep | while it grows | filled | bytes an entry |")
    print("|---" * 7 + "|")
    for size in sizes:
        speed = asyncio.run(measured(embedder, size, 2000))
        cells = [
            f"{times.at(0.5) / 1e3:.2f} / {times.at(0.99) / 1e3:.2f}"
            f" ({times.cpu_at(0.5) / 1e3:.2f} / {times.cpu_at(0.99) / 1e3:.2f})"
            if times.took_us
            else "-"
            for times in (speed.hit, speed.miss, speed.keep, speed.during)
        ]
        print(
            f"| {size:,} | " + " | ".join(cells) + f" |"
            f" {speed.fill_s:.0f} s | {speed.entry_bytes:.0f} |"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
