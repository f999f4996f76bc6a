"""Rows of feedback (`relay.store.feedback_store`), for who needs no database."""

from __future__ import annotations

from typing import NamedTuple


class Rated(NamedTuple):
    """A generation that somebody has an opinion of, as far as the accounts know it."""

    team_id: str
    decision: str
    """JSON; empty where nothing was decided, or it is not over."""


class FeedbackRow(NamedTuple):
    """Columns of `feedback`."""

    generation_id: str
    at_us: int
    team_id: str
    key_id: str
    score: float | None
    label: str
    comment: str
