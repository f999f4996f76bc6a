"""Denials told together: of what repeats within a second the first one whole, then a number.

Who is refused can ask again as fast as the machine answers; each refusal a row would be a way to
fill the disk. Repeats are those with the same action, actor, organisation and outcome. Of one
action no more than `MOST_ACTORS` actors are told apart in a second, so that changing addresses or
ids makes no difference either: those beyond are counted together, as `*`.

Pure: moments come with the events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

MOST_ACTORS: Final = 100
"""Of one action and organisation in one window."""
OTHERS: Final = "*"
"""The actor of those beyond."""


class Event(NamedTuple):
    """What is to become an entry."""

    at_us: int
    actor: str
    action: str
    subject: str
    organisation_id: str
    outcome: str
    detail: dict[str, object]


class _Repeats:
    __slots__ = ("count", "first_us", "last_us", "subject")

    def __init__(self, event: Event) -> None:
        self.count = 0
        self.first_us = self.last_us = event.at_us
        self.subject = event.subject


_Kind = tuple[str, str, str, str]


class Fold:
    """One window of events. Whoever closes it does so about once a second."""

    __slots__ = ("_actors", "_repeats")

    def __init__(self) -> None:
        self._repeats: dict[_Kind, _Repeats] = {}
        self._actors: dict[tuple[str, str, str], int] = {}

    def __len__(self) -> int:
        return len(self._repeats)

    def is_repeat(
        self, action: str, actor: str, organisation_id: str, outcome: str, subject: str, at_us: int
    ) -> bool:
        """Count an event if one like it was here before; else it is to be taken in whole."""
        repeats = self._repeats.get((action, actor, organisation_id, outcome))
        if repeats is None:
            if self._actors.get((action, organisation_id, outcome), 0) < MOST_ACTORS:
                return False
            repeats = self._repeats.get((action, OTHERS, organisation_id, outcome))
            if repeats is None:
                return False
        repeats.count += 1
        if at_us > repeats.last_us:
            repeats.last_us = at_us
        if repeats.subject != subject:
            repeats.subject = ""
        return True

    def take(self, event: Event) -> Event:
        """Take in an event that is no repeat; returns it as it is to be told."""
        group = (event.action, event.organisation_id, event.outcome)
        known = self._actors.get(group, 0)
        self._actors[group] = known + 1
        if known >= MOST_ACTORS:
            event = event._replace(actor=OTHERS)
        kind = (event.action, event.actor, event.organisation_id, event.outcome)
        self._repeats[kind] = _Repeats(event)
        return event

    def close(self) -> Iterator[Event]:
        """The numbers of what repeated: one event each, at the moment of its last. `subject` is
        kept where it was always the same."""
        for (action, actor, organisation_id, outcome), repeats in self._repeats.items():
            if repeats.count:
                yield Event(
                    repeats.last_us,
                    actor,
                    action,
                    repeats.subject,
                    organisation_id,
                    outcome,
                    {"repeats": repeats.count, "since_us": repeats.first_us},
                )
