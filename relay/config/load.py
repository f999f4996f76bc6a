"""From YAML, or from well-known environment variables, to a validated `Config`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from relay.codecs.registry import BUILDERS
from relay.config.faults import describe
from relay.config.known import known_providers, with_known_rows
from relay.config.model import ConfigError
from relay.config.references import Surroundings
from relay.config.shape import check_shape
from relay.config.whole import RESERVED_KEYS, Config


def parse(
    document: object,
    environment: Mapping[str, str] | None = None,
    *,
    folder: Path | None = None,
) -> Config:
    """Validate a parsed YAML document.

    Args:
        environment: what `${NAME}` is looked up in; the environment of the process if None.
        folder: where relative paths of `ca_file` and `${file:PATH}` start; the working
            directory if None.

    Raises:
        ConfigError: one line a fault, each naming its field.
    """
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError("the file holds no mapping of keys")
    for key in RESERVED_KEYS:
        if key in document:
            raise ConfigError(f"{key}: not there yet in this version; remove the key")
    prepared = dict(document)
    if "providers" in prepared:
        prepared["providers"] = with_known_rows(prepared["providers"])
    around = Surroundings(os.environ if environment is None else environment, folder or Path())
    try:
        return Config.model_validate(prepared, context=around)
    except ValidationError as error:
        raise ConfigError("\n".join(_told(error.errors()))) from None


def _told(faults: list[Any]) -> list[str]:
    """One line each; that a list is too short by what is wrong in it is not said beside that."""
    within = {fault["loc"][:size] for fault in faults for size in range(len(fault["loc"]))}
    return [
        describe(fault)
        for fault in faults
        if fault["type"] != "too_short" or fault["loc"] not in within
    ]


MAX_FILE_BYTES = 256 * 1024
"""Some two thousand providers. A reload is read in the loop, so it must not take long."""

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where there is one: a tenth of the time."""


def load(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and validate a file. Relative paths in it start from its folder.

    Args:
        environment: as of `parse`.

    Raises:
        ConfigError: it cannot be read, is empty, too large or no YAML, or has faults. An empty file
            is one that is being written, as a rule; `{}` says that there is nothing.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path.name}: {error.strerror}") from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"{path.name} is larger than {MAX_FILE_BYTES} bytes")
    try:
        text = data.decode()
        check_shape(text, path.name, _Loader)
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - both are safe
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: no UTF-8, or an impossible date.
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path.name} is no valid YAML{where}") from error
    if document is None:
        raise ConfigError(f"{path.name} is empty; write {{}} for a configuration of nothing")
    return parse(document, environment, folder=path.parent)


def from_environment(environment: Mapping[str, str]) -> Config | None:
    """A configuration of every provider whose well-known key variable is set; None if none is.

    The alias `fast` asks the first of them (in the order of `providers.yaml`) for its first known
    model, and falls back to the others.

    Args:
        environment: the only place where variables are looked up.

    Raises:
        ConfigError: a key has characters that no header may carry.
    """
    providers: dict[str, Any] = {}
    candidates: list[dict[str, str]] = []
    for name, row in known_providers().items():
        variable = row.get("api_key_env")
        if not variable or not environment.get(variable) or row["wire"] not in BUILDERS:
            continue
        providers[name] = {"api_key": f"${{{variable}}}"}
        if row.get("models"):
            candidates.append({"provider": name, "model": row["models"][0]})
    if not providers:
        return None
    document: dict[str, Any] = {"providers": providers}
    if candidates:
        document["models"] = {"fast": {"candidates": candidates[:1], "fallbacks": candidates[1:]}}
    return parse(document, environment)


def key_variables() -> list[str]:
    """The well-known key variables of the providers that this version can ask."""
    rows = known_providers().values()
    return [row["api_key_env"] for row in rows if row["wire"] in BUILDERS and "api_key_env" in row]


def unspoken_keys(environment: Mapping[str, str]) -> list[str]:
    """A warning for every well-known key that is set for a wire this version does not speak."""
    return [
        f"{row['api_key_env']} is set, but this version does not speak {row['wire']} yet"
        for row in known_providers().values()
        if row["wire"] not in BUILDERS and environment.get(row.get("api_key_env") or "")
    ]
