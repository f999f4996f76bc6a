"""A draft as YAML with comments, and as the document that the YAML is read back to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import yaml

from relay.importing.draft import Alias, Draft, Target
from relay.importing.report import printable

_WIDTH: Final = 96


def document_of(draft: Draft) -> dict[str, Any]:
    """As `relay.config.parse` takes it."""
    document: dict[str, Any] = dict(draft.sections)
    document["providers"] = {name: row.fields for name, row in draft.rows.items()}
    if draft.aliases:
        document["models"] = {name: _alias(alias) for name, alias in draft.aliases.items()}
    return document


def yaml_of(draft: Draft) -> str:
    """With the notes as comments."""
    parts = [_comments(draft.notes.get("", ()), "")]
    for name, section in draft.sections.items():
        parts.append(_comments(draft.notes.get(name, ()), "") + _block({name: section}))
    parts.append(_comments(draft.notes.get("providers", ()), ""))
    parts.append("providers:\n" if draft.rows else "providers: {}\n")
    for name, row in draft.rows.items():
        parts.append(_comments(row.notes, "  ") + _indented(_block({name: row.fields})))
    if draft.aliases:
        parts += [_comments(draft.notes.get("models", ()), ""), "models:\n"]
    for name, alias in draft.aliases.items():
        parts.append(_comments(alias.notes, "  ") + _indented(_block({name: _alias(alias)})))
    return "".join(parts)


def _alias(alias: Alias) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if alias.tags:
        found["tags"] = alias.tags
    found["candidates"] = _targets(alias.candidates)
    if alias.fallbacks:
        found["fallbacks"] = _targets(alias.fallbacks)
    if alias.timeouts:
        found["timeouts"] = alias.timeouts
    if alias.choose:
        found["choose"] = alias.choose
    return found


def _targets(targets: Iterable[Target]) -> list[dict[str, str]]:
    return [{"provider": target.provider, "model": target.model} for target in targets]


def _block(value: object) -> str:
    """In block style, and what has nothing but texts and numbers in it on one line."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        default_flow_style=None,
        width=_WIDTH,
        allow_unicode=True,
    )


class _Dumper(yaml.SafeDumper):
    """Without anchors: two rows that say the same say it twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())


def _comments(notes: Iterable[str], indent: str) -> str:
    return "".join(f"{indent}# {printable(line)}\n" for note in notes for line in note.splitlines())
