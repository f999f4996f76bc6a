"""A mapping of theirs. What nobody takes from it is told at its end, so nothing is passed over."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from relay.importing.report import Report

MAX_FILE_BYTES: Final = 4 * 1024 * 1024
MAX_MS: Final = 86_400_000
"""A day: what is longer in their file means "never"."""

MAX_PAIRS: Final = 100_000
"""Keys of all mappings, those that merges (`<<`) repeat among them."""
MAX_DIGITS: Final = 300
"""Of a whole number: what is longer is no number that a float holds."""

_UNKNOWN: Final = "this is not known to `relay import`, and nothing of it is in the new file"


class ImportFault(Exception):
    """Their file cannot be read at all. The message holds nothing of what is in it."""


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ImportFault(f"cannot read {path}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ImportFault(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ImportFault(f"{path} is not text") from None


class _TooMuch(Exception):
    """What the file asks for is more than is built; the message goes behind the file's name."""


class _Loader(yaml.SafeLoader):
    """Bounded: a few lines whose merges name each other ten times ask for billions of keys."""

    _pairs = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # Merging flattens each mapping that it takes pairs of, and copies them after it: what is
        # counted here is never less than what is copied next.
        super().flatten_mapping(node)
        self._pairs += len(node.value)
        if self._pairs > MAX_PAIRS:
            raise _TooMuch(f"holds more than {MAX_PAIRS} keys, those of its merges (<<) counted")

    def bounded_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > MAX_DIGITS:
            raise _TooMuch(f"holds a whole number of more than {MAX_DIGITS} digits")
        return int(self.construct_yaml_int(node))


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.bounded_int)


def _int_of_json(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _TooMuch(f"holds a whole number of more than {MAX_DIGITS} digits")
    return int(digits)


def read_yaml(path: Path) -> Mapping[str, Any]:
    """
    Raises:
        ImportFault: it cannot be read, is no YAML, holds no mapping, or more than is read.
    """
    try:
        found = yaml.load(_text_of(path), _Loader)  # noqa: S506 - a SafeLoader
    except _TooMuch as error:
        raise ImportFault(f"{path} {error}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ImportFault(f"{path} is no valid YAML{where}") from None
    return _mapping(found, path)


def read_json(path: Path) -> Mapping[str, Any]:
    """
    Raises:
        ImportFault: it cannot be read, is no JSON, holds no object, or more than is read.
    """
    try:
        found = json.loads(_text_of(path), parse_int=_int_of_json)
    except _TooMuch as error:
        raise ImportFault(f"{path} {error}") from None
    except json.JSONDecodeError as error:
        raise ImportFault(f"{path} is no valid JSON in line {error.lineno}") from None
    except RecursionError:
        raise ImportFault(f"{path} is nested too deeply") from None
    return _mapping(found, path)


def _mapping(found: object, path: Path) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise ImportFault(f"{path} holds no mapping of keys")
    return found


class Section:
    """One mapping of their file, and where it stands in it."""

    def __init__(
        self, value: object, path: str, report: Report, *, takes_camel_case: bool = False
    ) -> None:
        """
        Args:
            takes_camel_case: `requestTimeout` is `request_timeout`.
        """
        self.path = path
        self._report = report
        self._takes_camel_case = takes_camel_case
        self._values: dict[str, tuple[str, Any]] = {}
        if isinstance(value, Mapping):
            for name, inner in value.items():
                key = _snake(str(name)) if takes_camel_case else str(name)
                self._values[key] = (str(name), inner)
        elif value is not None:
            report.leave(path or "the file", "a mapping of keys is expected here")
        self._left = dict.fromkeys(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def path_of(self, name: str) -> str:
        """Of a key, as their file spells it."""
        spelt = self._values[name][0] if name in self._values else name
        return f"{self.path}.{spelt}" if self.path else spelt

    def take(self, name: str) -> Any:
        """The value, which is dealt with from now on; None where there is none."""
        self._left.pop(name, None)
        return self._values[name][1] if name in self._values else None

    def text(self, name: str) -> str:
        """Of a text or a number; empty where there is none."""
        value = self.take(name)
        if value is None or isinstance(value, str):
            return (value or "").strip()
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        if hasattr(value, "isoformat"):  # YAML reads `2024-10-21` as a day
            return str(value.isoformat())
        self._report.leave(self.path_of(name), "a text is expected here")
        return ""

    def number(self, name: str) -> float | None:
        """Above zero; None where there is none. What is neither is told."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, str):
            try:
                value = float(value)
            except ValueError:
                value = math.nan
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or value <= 0
        ):
            self._report.leave(self.path_of(name), "a number above zero is expected here")
            return None
        return float(value)

    def whole(self, name: str, *, most: int) -> int | None:
        """A whole number from 1; larger ones are taken as `most`."""
        value = self.number(name)
        return None if value is None else max(1, min(round(value), most))

    def ms(self, name: str, *, per_unit_ms: int = 1000) -> int | None:
        """A time in milliseconds, a day at most."""
        value = self.number(name)
        return (
            None if value is None else max(1, min(round(min(value, MAX_MS) * per_unit_ms), MAX_MS))
        )

    def section(self, name: str) -> Section:
        """A mapping in it; an empty one where there is none."""
        return self._inner(self.take(name), self.path_of(name))

    def sections(self, name: str) -> list[Section]:
        """A list of mappings."""
        path = self.path_of(name)
        return [
            self._inner(value, f"{path}[{index}]") for index, value in enumerate(self.items(name))
        ]

    def items(self, name: str) -> list[Any]:
        """A list; a single value is one of one."""
        value = self.take(name)
        if value is None:
            return []
        return list(value) if isinstance(value, list | tuple) else [value]

    def names(self) -> list[str]:
        """Of all keys."""
        return list(self._values)

    def _inner(self, value: object, path: str) -> Section:
        return Section(value, path, self._report, takes_camel_case=self._takes_camel_case)

    def leave(self, name: str, told: str) -> None:
        """Take a key, where it is there, and tell why nothing comes of it."""
        if name in self._left:
            self.take(name)
            self._report.leave(self.path_of(name), told)

    def differ(self, name: str, told: str) -> None:
        """Take a key, where it is there, and tell what is done instead."""
        if name in self._left:
            self.take(name)
            self._report.differ(self.path_of(name), told)

    def finish(
        self, left: Mapping[str, str] | None = None, differs: Mapping[str, str] | None = None
    ) -> None:
        """Tell of every key that nobody has taken.

        Args:
            left, differs: what is known of keys, by name.
        """
        for name in [*self._left]:
            if differs is not None and name in differs:
                self.differ(name, differs[name])
            else:
                self.leave(name, (left or {}).get(name, _UNKNOWN))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower() if not name.isupper() else name
