"""Values in the blocks of Anthropic's and Bedrock's messages; each may be anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relay.errors import RemoteProtocolError


def text_of(value: object) -> str:
    """The text, or an empty one in place of anything else."""
    return value if isinstance(value, str) else ""


def list_of(value: object) -> list[Any]:
    """The list, or an empty one in place of anything else."""
    return value if type(value) is list else []


def mappings(values: object) -> list[Mapping[str, Any]]:
    """The objects of a list; what else is in it is passed over."""
    given = values if isinstance(values, list | tuple) else ()
    return [value for value in given if isinstance(value, Mapping)]


def unread_blocks(entries: object) -> list[dict[str, Any]]:
    """Blocks of an earlier answer that the relay did not read, as it gave them to the client."""
    blocks = [entry.get("block") for entry in mappings(entries)]
    return [dict(block) for block in blocks if isinstance(block, Mapping)]


def block_index(value: object) -> int:
    """Which block of an answer an event belongs to.

    Raises:
        RemoteProtocolError: no number that could be one.
    """
    if type(value) is not int or not 0 <= value < 1 << 31:
        raise RemoteProtocolError("a block of the answer has no possible index")
    return value
