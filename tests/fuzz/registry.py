"""What a fuzz target is, and which there are: one module a family, each with its `TARGETS`.

A target is told apart by `FAMILY/NAME`. A family, or several (`bodies+frames`), is one as well: the
first byte of an input says for which of its own the rest is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

FAMILIES: Final = (
    "streams",
    "codecs",
    "vectors",
    "bodies",
    "headers",
    "tokens",
    "frames",
    "websocket",
    "http",
    "config",
    "kept",
    "messages",
    "audit",
    "importing",
    "guards",
    "credentials",
    "policy",
    "administration",
)


class Target(NamedTuple):
    """One parser, or several of one kind that are held to the same."""

    check: Callable[[bytes], object]
    """Takes one input; raises whatever breaks a promise. True: the parser took it as good."""
    seeds: Callable[[], Iterable[bytes]]
    """Inputs to begin with, some of them good."""


def targets_of(family: str) -> Mapping[str, Target]:
    """Import a family; its parsers with it, so instrument before."""
    found: Mapping[str, Target] = importlib.import_module(f"tests.fuzz.families.{family}").TARGETS
    return found


def find(name: str) -> Target:
    """A target, a whole family or several by the name.

    Raises:
        KeyError: there is none.
    """
    head, _, single = name.partition("/")
    families = head.split("+")
    if not set(families) <= set(FAMILIES):
        raise KeyError(name)
    if single:
        return targets_of(head)[single]
    return _together([one for family in families for one in targets_of(family).values()])


def _together(several: list[Target]) -> Target:
    def check(given: bytes) -> object:
        return bool(given) and several[given[0] % len(several)].check(given[1:])

    def seeds() -> Iterable[bytes]:
        for at, one in enumerate(several):
            for seed in one.seeds():
                yield bytes([at]) + seed

    return Target(check, seeds)
