"""Fuzzes one target, or a family of them, with atheris.

    python -m tests.fuzz.target TARGET [libFuzzer options] [directory for new inputs] [seeds ...]

Targets are those of `tests.fuzz.registry`: `codecs/gemini`, `bodies`. Seeds of their own are
written into `SEEDS` by `python -m tests.fuzz.target --seeds TARGET DIRECTORY`.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.registry import find
from tests.fuzz.seeds import write_seeds


def main() -> None:
    if sys.argv[1] == "--seeds":
        write_seeds(sys.argv[2], sys.argv[3])
        return
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["relay"]):
        target = find(name)
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
