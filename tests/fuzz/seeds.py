"""Seeds and words of a target as libFuzzer reads them: a directory of inputs, and a dictionary."""

from __future__ import annotations

import re
from pathlib import Path

from tests.fuzz.registry import find

MAX_WORDS = 400


def write_seeds(name: str, into: Path | str) -> int:
    """Write the seeds of a target there, and return how many there are."""
    folder = Path(into)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for count, seed in enumerate(find(name).seeds(), 1):
        (folder / f"seed-{count:04d}").write_bytes(seed)
    return count


def write_words(name: str, into: Path) -> None:
    """Write what is quoted, or a name, in a target's seeds: what no fuzzer finds byte by byte."""
    words: dict[bytes, None] = {}
    for seed in find(name).seeds():
        for word in re.findall(rb'"[^"\\\x00-\x1f\x7f-\xff]{1,40}"|[A-Za-z][\w-]{2,40}', seed):
            words[word] = None
            if len(words) >= MAX_WORDS:
                break
    lines = [b'"%b"' % word.replace(b'"', b'\\"') for word in words]
    into.write_bytes(b"\n".join(lines) + b"\n")
