"""docs/metrics.md has every family as the table has it, and settings that are taken."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from relay.config import Config, parse
from relay.errors import Reason
from relay.observability.metrics.families import (
    DIRECT,
    FAMILIES,
    NONE,
    OTHER,
    SHADOW,
    UNKNOWN,
    Kind,
)
from relay.timeline import PHASES

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
BLOCKS = [yaml.safe_load(one) for one in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)]


def test_every_family_is_there_as_it_is() -> None:
    rows = [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in PAGE.splitlines()
        if line.startswith("| `rtrelay_")
    ]
    wanted = [
        (
            f"`{name}`",
            f"gauge, {family.join}" if family.kind is Kind.GAUGE else family.kind.value,
            ", ".join(f"`{label}`" for label in family.labels) or "none",
            family.rows,
            family.help,
        )
        for name, family in FAMILIES.items()
    ]
    assert rows == wanted


def test_names_in_the_text_are_there() -> None:
    for name in re.findall(r"`?(rtrelay_\w+)", PAGE):
        base = re.sub(r"_(sum|count|bucket)$", "", name)
        assert name in FAMILIES or base in FAMILIES, name
    for own in (DIRECT, NONE, OTHER, SHADOW, UNKNOWN):
        assert f"`{own}`" in PAGE


def test_numbers_of_rows_are_those_of_the_lists() -> None:
    rows = [family.rows for family in FAMILIES.values()]
    for word, names in (("reasons", Reason), ("phases", PHASES)):
        told = [count for one in rows for count in re.findall(rf"{word} \((\d+)\)", one)]
        assert set(told) == {str(len(names))}, word


def test_the_settings_shown_are_the_defaults() -> None:
    (shown,) = [block for block in BLOCKS if "observability" in block]
    assert parse(shown).observability == Config().observability
    given, metrics = shown["observability"]["metrics"], Config().observability.metrics
    assert set(given) == set(type(metrics).model_fields)
    assert set(given["buckets"]) == set(type(metrics.buckets).model_fields)


def test_names_follow_prometheus() -> None:
    for name, family in FAMILIES.items():
        assert re.fullmatch(r"rtrelay_[a-z][a-z0-9_]*", name)
        assert name.endswith("_total") == (family.kind is Kind.COUNTER)
        if family.kind is Kind.HISTOGRAM:
            assert name.endswith("_seconds")
        assert family.help.endswith(".")
        assert not re.search(r"_(ms|us|micro|millis)(_|$)", name)
