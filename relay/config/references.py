"""Secrets and other texts that the file only refers to: `${ENV_NAME}`, `${file:PATH}`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationInfo

from relay.config.secret import Secret

_REFERENCE = re.compile(r"\$\{(?:(?P<env>[A-Za-z_][A-Za-z0-9_]*)|file:(?P<file>[^}]+))\}")


class Surroundings(NamedTuple):
    """Where the references of a file lead."""

    environment: Mapping[str, str]
    """What `${NAME}` is looked up in."""
    folder: Path
    """Where relative paths start: the file's own folder, so that they mean the same from
    wherever the relay is started."""


def surroundings(info: ValidationInfo) -> Surroundings:
    """As given to `parse`; of this process where a model is validated by itself."""
    given: Surroundings | None = info.context
    return Surroundings(os.environ, Path()) if given is None else given


def _look_up(reference: re.Match[str], around: Surroundings) -> str:
    """
    Raises:
        ValueError: there is nothing behind the reference; it is named, no value is.
    """
    if (name := reference["env"]) is not None:
        secret = around.environment.get(name, "")
        if not secret:
            raise ValueError(f"the environment variable {name} is not set")
        return secret
    path = around.folder / reference["file"]
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text") from None  # its bytes are the secret
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret


def resolve_secret(value: object, around: Surroundings) -> object:
    """`${NAME}` from the environment, `${file:PATH}` from a file; anything else is refused."""
    found = resolve_password(value, around)
    if found is value:
        return found
    secret = found.get_secret_value()
    if not secret.isascii() or any(c.isspace() or not c.isprintable() for c in secret):
        raise ValueError("the secret has white space or characters that no header may carry")
    return found


def resolve_password(value: object, around: Surroundings) -> Secret:
    """As `resolve_secret`, of one that is sent in no header: it may have any characters."""
    if isinstance(value, Secret):
        return value
    if not isinstance(value, str) or (match := _REFERENCE.fullmatch(value)) is None:
        raise ValueError("a secret is given as ${ENV_NAME} or ${file:PATH}, never in the file")
    return Secret(_look_up(match, around))


def expand(value: object, around: Surroundings) -> str:
    """A text with every reference in it replaced.

    Raises:
        ValueError: it is no text, a reference is malformed or leads nowhere.
    """
    if isinstance(value, Secret):
        return value.get_secret_value()
    if not isinstance(value, str):
        raise ValueError("a text is expected")  # noqa: TRY004 - pydantic's protocol
    if "${" in _REFERENCE.sub("", value):
        raise ValueError("a reference is ${ENV_NAME} or ${file:PATH}")
    return _REFERENCE.sub(lambda match: _look_up(match, around), value)


def expand_secret(value: object, info: ValidationInfo) -> object:
    """`expand`, and never shown again."""
    return None if value is None else Secret(expand(value, surroundings(info)))
