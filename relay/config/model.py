"""What every section of the file is made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


class ConfigError(Exception):
    """The configuration cannot be used; the message names every field at fault."""


def near(name: str, known: Iterable[str]) -> str:
    """What may have been meant, to be put behind a fault; empty where nothing is near."""
    found = difflib.get_close_matches(name, [*known], 1)
    return f"; did you mean {found[0]!r}?" if found else ""


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _split_address(value: str) -> str:
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ValueError(f"{value!r} is not HOST:PORT")
    return value


Address = Annotated[str, AfterValidator(_split_address)]
