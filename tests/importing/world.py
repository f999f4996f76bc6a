"""What every imported file must be: taken by the relay, read back as meant, without secrets."""

from __future__ import annotations

from typing import Any

import yaml

from relay.config import Config, parse
from relay.importing import Draft, Report, document_of, yaml_of
from relay.routing.catalog import Catalog

SECRET = "canary-0123456789-ABCDEFGHIJ-abcdefghij-{}"
"""Stands for keys; with another word in each place, so that they differ."""


def taken(draft: Draft, report: Report) -> Config:
    """The configuration that the relay makes of what was written; fails where it takes none, or
    where a secret is shown."""
    text, told = yaml_of(draft), report.to_text()
    document = yaml.safe_load(text)
    assert document == document_of(draft)
    assert "canary" not in text
    assert "canary" not in told
    config = parse(document, report.stand_ins())
    Catalog(config)
    return config


def left(report: Report) -> set[str]:
    """Paths of what was not carried over."""
    return {entry.path for entry in report.left}


def differs(report: Report) -> set[str]:
    return {entry.path for entry in report.differs}


def targets(config: Config, alias: str, kind: str = "candidates") -> list[str]:
    """`provider/model` of an alias, in order."""
    return [f"{one.provider}/{one.model}" for one in getattr(config.models[alias], kind)]


def row(draft: Draft, name: str) -> dict[str, Any]:
    return draft.rows[name].fields
