"""Secrets and other texts that stand elsewhere, or should.

Their `os.environ/NAME` is our `${NAME}`. A secret that stands in their file gets a variable of its
own, named after whose it is: its value is looked at to see that two are the same, and goes nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Final

from relay.importing.report import Report

_IN_ENVIRONMENT: Final = re.compile(r"os\.environ/(.+)", re.DOTALL)


class Variables:
    """Of one import."""

    def __init__(
        self, report: Report, environment: Mapping[str, str], reserved: Collection[str] = ()
    ) -> None:
        """
        Args:
            reserved: names that their file uses.
            environment: where texts that are no secrets, and that their file takes from the
                environment, are looked up.
        """
        self._report = report
        self._environment = environment
        self._by_value: dict[str, str] = {}
        self._reserved = reserved

    def secret(self, value: object, wish: str, path: str) -> str:
        """The reference for a secret; empty where there is none.

        Args:
            wish: name of the variable, where the secret itself stands in their file.
        """
        if value is None or value == "" or isinstance(value, dict | list | bool):
            if isinstance(value, dict | list | bool):
                self._report.leave(path, "a text is expected here")
            return ""
        text = str(value)
        if (match := _IN_ENVIRONMENT.fullmatch(text)) is not None:
            return self.named(match[1], "as their file does")
        if (known := self._by_value.get(text)) is None:
            taken = {*self._report.variables, *self._reserved}
            known, number = wish, 2
            while known in taken:
                known, number = f"{wish}_{number}", number + 1
            self._by_value[text] = known
            self._report.variables[known] = f"the value stands in their file, at {path}; move it"
        return f"${{{known}}}"

    def named(self, name: str, told: str) -> str:
        """The reference for a variable of this name."""
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name.strip())
        if not plain or plain[0].isdigit():
            plain = f"_{plain}"
        self._report.variables.setdefault(plain, told)
        return f"${{{plain}}}"

    def plain(self, value: str, path: str, *, stand_in: str = "") -> str:
        """A text that is no secret, for a place where our file takes no reference.

        Args:
            stand_in: what is written where the text is in a variable that is not set here.
        """
        match = _IN_ENVIRONMENT.fullmatch(value)
        if match is None:
            return value
        if found := self._environment.get(match[1].strip(), "").strip():
            return found
        self.tell_unset(match[1].strip(), path, stand_in)
        return stand_in

    def unset(self, value: str) -> str:
        """The variable that a text is in and that is not set here; empty where there is none."""
        match = _IN_ENVIRONMENT.fullmatch(value)
        if match is None or self._environment.get(match[1].strip(), "").strip():
            return ""
        return match[1].strip()

    def tell_unset(self, name: str, path: str, stand_in: str) -> None:
        """Tell of a text in a variable that is not set here, and what is in our file for it."""
        self._report.leave(
            path,
            f"it is in the environment variable {name!r}, which is not set here, and"
            f" our file takes no reference there: {stand_in!r} stands for it; put the text in its"
            " place, or set the variable and import again",
        )


def variable_of(text: str) -> str:
    """A name for an environment variable, after whose it is: `openai` -> OPENAI_API_KEY."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").upper() or "PROVIDER"
    return f"_{plain}" if plain[0].isdigit() else plain


def names_in(document: object) -> frozenset[str]:
    """Every NAME of `os.environ/NAME` in their file. What is there twice, by an anchor of YAML, is
    looked at once."""
    found: set[str] = set()
    seen: set[int] = set()
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if (match := _IN_ENVIRONMENT.fullmatch(value)) is not None:
                found.add(match[1].strip())
        elif isinstance(value, dict | list) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value
    return frozenset(found)
