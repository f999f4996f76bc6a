"""What a text of YAML may look like, seen from its events, before anything is built of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from relay.config.model import ConfigError

MAX_FILE_DEPTH = 32
MAX_FILE_EVENTS = 40_000
"""Keys, values, and ends of lists and mappings."""


@dataclass(slots=True)
class _Open:
    """A list or mapping that is not over yet.

    Attributes:
        lines: of a mapping, the line of each of its keys so far; None of a list.
        key: whose value comes next; None where a key does.
    """

    lines: dict[str, int] | None
    key: str | None = None
    names: tuple[str, ...] = field(default=())


def check_shape(text: str, name: str, loader: Any) -> None:
    """Look through the events of a text, which takes no stack, before it is loaded, which does.

    A key that stands twice in one mapping is refused: YAML forbids it, and PyYAML would forget the
    first without a word, a whole section with it.

    Raises:
        ConfigError: it is nested too deep, holds too much, or has a key twice.
        yaml.YAMLError: it is no YAML.
    """
    within: list[_Open] = []
    for count, event in enumerate(yaml.parse(text, Loader=loader)):
        if count > MAX_FILE_EVENTS:
            raise ConfigError(f"{name} holds more than {MAX_FILE_EVENTS} keys and values")
        if isinstance(event, yaml.CollectionEndEvent):
            within.pop()
        elif isinstance(event, yaml.NodeEvent):
            names = _take(within[-1], event, name) if within else ()
            if isinstance(event, yaml.CollectionStartEvent):
                if len(within) == MAX_FILE_DEPTH:
                    where = f" in line {event.start_mark.line + 1}" if event.start_mark else ""
                    raise ConfigError(f"{name} is nested too deep{where}")
                is_mapping = isinstance(event, yaml.MappingStartEvent)
                within.append(_Open({} if is_mapping else None, names=names))


def _take(around: _Open, event: yaml.NodeEvent, name: str) -> tuple[str, ...]:
    """Note a node of a list or mapping; the names of the keys on the way to it."""
    if around.lines is None:
        return around.names
    if around.key is not None:
        names, around.key = (*around.names, around.key), None
        return names
    around.key = event.value if isinstance(event, yaml.ScalarEvent) else ""
    if isinstance(event, yaml.ScalarEvent) and around.key != "<<":
        line = event.start_mark.line + 1 if event.start_mark else 0
        if around.key in around.lines:
            path = ".".join((*around.names, around.key))
            lines = f"lines {around.lines[around.key]} and {line}"
            raise ConfigError(f"{path}: stands twice in {name} ({lines}); put both into one")
        around.lines[around.key] = line
    return around.names
