"""A configuration with a few aliases, to which tests add rules; and small requests."""

from __future__ import annotations

from typing import Any

from relay.config import Config, parse
from relay.content import GenerateRequest, Message, Part, Role, TextPart
from relay.policy.chooser import Chooser

PROVIDER = {
    "wire": "openai_chat",
    "base_url": "http://127.0.0.1:1/v1",
    "models": ["listed"],
    "prices": {"a": {"input": 1, "output": 2}, "b": {"input": 5, "output": 10}},
}


def alias(model: str, *tags: str) -> dict[str, Any]:
    return {"candidates": [{"provider": "p", "model": model}], "tags": list(tags)}


ALIASES = {
    "fast": alias("a", "cheap", "quick"),
    "accurate": alias("b", "best"),
    "other": alias("c", "cheap"),
}


def configured(*rules: dict[str, Any], **more: Any) -> Config:
    """The whole configuration.

    Raises:
        ConfigError: of a rule that cannot be.
    """
    document = {"providers": {"p": PROVIDER}, "models": ALIASES, "policies": {"rules": [*rules]}}
    return parse({**document, **more})


def chooser(*rules: dict[str, Any], draw: float = 0.999) -> Chooser:
    """
    Args:
        draw: what every draw gives; near 1 explores nothing.
    """
    return Chooser.of(configured(*rules), lambda: draw)


def said(text: str, role: Role = Role.USER) -> Message:
    return Message(role, (TextPart(text),))


def request(*parts: Part, **fields: Any) -> GenerateRequest:
    """One user turn of these parts, for `fast`."""
    message = Message(Role.USER, parts or (TextPart("Hello"),))
    return GenerateRequest(**{"model": "fast", "messages": (message,), **fields})
