"""Checks of what callers give: errors name the argument, and never show a key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import grpc

from rtrelay.v1 import Message, Part, Prompt, Role, Start

M = TypeVar("M")

_WEB_SCHEMES = ("http://", "https://", "grpc://", "grpcs://")
_UNIX_SCHEMES = ("unix:", "unix-abstract:")


def made(make: Callable[..., M], **fields: object) -> M:
    """A protobuf message of these fields; None leaves one unset.

    Raises:
        TypeError: a field has the wrong type; it is named.
        ValueError: a text is no Unicode, or a number out of range; the same.
    """
    try:
        return make(**fields)
    except (TypeError, ValueError):
        for name, value in fields.items():
            named(name, lambda name=name, value=value: make(**{name: value}))  # type: ignore[misc]
        raise


def named(name: str, work: Callable[[], M]) -> M:
    """Do it, and put the argument's name before the error.

    Raises:
        TypeError, ValueError: as `work`.
    """
    try:
        return work()
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None
    except ValueError as error:  # UnicodeEncodeError and json's among them
        raise ValueError(f"{name}: {error}") from None


def addresses_of(given: object) -> tuple[str, ...]:
    """One address or several.

    Raises:
        TypeError, ValueError: there is none, or one that cannot be right.
    """
    several = (given,) if isinstance(given, str) else given
    if not isinstance(several, Sequence) or not all(isinstance(one, str) for one in several):
        raise TypeError("addresses: a text or several of them")
    if not several:
        raise ValueError("addresses: a client needs an address")
    for address in several:
        if not address:
            raise ValueError("addresses: an address is empty")
        if address.lower().startswith(_WEB_SCHEMES):
            scheme = address.partition("//")[0] + "//"
            raise ValueError(f"addresses: host:port or unix:/path, without {scheme}")
    return tuple(several)


def is_unix(address: str) -> bool:
    """It is a socket of this machine, which is never spoken to over TLS."""
    return address.startswith(_UNIX_SCHEMES)


def key_metadata(key: object) -> tuple[tuple[str, str], ...]:
    """What goes with each call.

    Raises:
        TypeError, ValueError: it cannot be sent; the key is not shown.
    """
    if key is None:
        return ()
    if not isinstance(key, str):
        raise TypeError("key: a text")
    if not key:
        raise ValueError("key: it is empty; None sends none")
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        raise ValueError("key: it has characters that cannot be sent (a line end, perhaps)")
    return (("authorization", f"Bearer {key}"),)


def checked_options(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options of a channel.

    Raises:
        TypeError: gRPC takes no such value.
    """
    for name, value in options.items():
        if not isinstance(value, int | str | bytes):
            raise TypeError(f"channel_options: {name} is {type(value).__name__}")
    return tuple(options.items())


def checked_credentials(given: object) -> grpc.ChannelCredentials | None:
    """
    Raises:
        TypeError: they are none.
    """
    if given is not None and not isinstance(given, grpc.ChannelCredentials):
        raise TypeError("credentials: grpc.ssl_channel_credentials(...), or None for plain text")
    return given


def checked_provider(given: Any) -> Any:
    """
    Raises:
        TypeError: it lacks a method of `rtrelay.direct.Provider`.
    """
    for method in ("generate", "warm", "aclose"):
        if not callable(getattr(given, method, None)):
            raise TypeError(f"direct: {type(given).__name__} has no {method}()")
    return given


def duration(name: str, value: object) -> None:
    """
    Raises:
        TypeError, ValueError: it is no length of time.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name}: a number")
    if not value >= 0:  # NaN is not either
        raise ValueError(f"{name}: {value} is no length of time")


def callback(name: str, given: object) -> None:
    """
    Raises:
        TypeError: it cannot be called.
    """
    if given is not None and not callable(given):
        raise TypeError(f"{name}: it cannot be called")


def texts(name: str, given: object) -> Iterable[str]:
    """
    Raises:
        TypeError: one text, where several are meant: each letter would count as one.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{name}: a list of texts")
    return given


def set_prompt(start: Start, given: object) -> None:
    """Put what the model is given into its field.

    Raises:
        TypeError, ValueError: it is of no kind that is known.
    """
    named("prompt", lambda: _set_prompt(start, given))


def _set_prompt(start: Start, given: Any) -> None:
    if isinstance(given, str):
        given = [Message(role=Role.ROLE_USER, parts=[Part(text=given)])]
    if isinstance(given, bytes):
        start.openai_chat_body = given
    elif isinstance(given, Prompt):
        start.prompt.CopyFrom(given)
    elif isinstance(given, Mapping):
        start.openai_chat_body = _json(given)
    elif not isinstance(given, Sequence):
        raise TypeError("a text, a Prompt, messages, or the body of a chat completion")
    elif not given:
        raise ValueError("it has no message")
    elif all(isinstance(message, Message) for message in given):
        start.prompt.messages.extend(given)
    elif all(isinstance(message, Mapping) for message in given):
        start.openai_chat_body = _json({"messages": list(given)})
    else:
        raise TypeError("a prompt's messages are all `Message` or all mappings")


def _json(value: object) -> bytes:
    """Without NaN and infinities, which are no JSON."""
    return json.dumps(value, allow_nan=False).encode()
