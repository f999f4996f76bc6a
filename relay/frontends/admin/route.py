"""What a route of the administration is: a method and a path, the permission that it takes, what it
reads and what it answers. A table of routes is all that the router, the OpenAPI document and the
tests of who may what know; what is in no table is not served.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from relay.administration.desk import Desk
from relay.administration.roles import Actor

Schema = dict[str, Any]

BASE: Final = "/admin/v1"
_PART: Final = "([0-9A-Za-z_]{1,64})"
NOTHING: Final[Mapping[str, Schema]] = {}


class Asked(NamedTuple):
    """A request that was looked at."""

    path: Mapping[str, str]
    """What stands for the names in the route's path."""
    query: Mapping[str, Any]
    """Values by their schemas; only those that came."""
    body: dict[str, Any]
    """Likewise."""


class Raw(NamedTuple):
    """An answer that is no JSON. The pieces are asked for one by one, in a thread; if one fails the
    connection is broken, so that half an answer does not look like a whole one."""

    pieces: Iterable[bytes]
    content_type: str
    file_name: str = ""


Act = Callable[[Desk, Actor, Asked], Any]


class Route(NamedTuple):
    """One of them."""

    method: str
    path: str
    """`/admin/v1/keys/{key_id}`"""
    permission: str
    """Of `relay.administration.roles`; looked at before anything else of the request."""
    summary: str
    act: Act | None
    """Blocking, in a thread; returns JSON values, None for an empty answer, or `Raw`."""
    answer: Schema | None = None
    """None: an empty one, 204."""
    query: Mapping[str, Schema] = NOTHING
    body: Schema | None = None
    """None: there is none."""
    status: int = 200
    example: Mapping[str, Any] = NOTHING
    """Of the body."""
    content_type: str = "application/json"
    come: Callable[[], Awaitable[Any]] | None = None
    """Instead of `act`, in the loop; returns JSON values, or `Raw`."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """Fits the paths of this route."""
        literal = re.split(r"\{\w+\}", self.path)
        return re.compile(_PART.join(map(re.escape, literal)))

    @property
    def names(self) -> list[str]:
        """Of what is left open in the path."""
        return re.findall(r"\{(\w+)\}", self.path)
