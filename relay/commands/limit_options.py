"""The options of limits, which several commands take alike."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

_HELP: Final = {
    "rpm": "requests a minute",
    "input_tpm": "tokens of prompts a minute",
    "output_tpm": "tokens of answers a minute",
    "generations": "generations at once",
    "sessions": "sessions at once",
}


def with_limits(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--rpm`, `--input-tpm` and so on, in the place of its parameter `limits`: a
    mapping of those that are named, None where none is."""
    signature = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[int | None, typer.Option(min=1, help=words)],
        )
        for name, words in _HELP.items()
    ]
    parameters: list[inspect.Parameter] = []
    for name, parameter in signature.parameters.items():
        # By name alone, since what stands after the options may have no default.
        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]
        parameters += options if name == "limits" else own

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        named = {name: value for name in _HELP if (value := given.pop(name)) is not None}
        command(**given, limits=named or None)

    wrapped.__annotations__ = {one.name: one.annotation for one in parameters}
    wrapped.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapped
