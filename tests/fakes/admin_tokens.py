"""Tokens of administrators, made as `relay admins create` makes them."""

from __future__ import annotations

from relay.administering import desk_of
from relay.administration.administrators import create_administrator
from relay.administration.roles import OPERATOR, Actor
from relay.config import parse
from relay.store.engine import engine_for, make_ready
from tests.fakes.relay_under_test import Document


def owner_of(document: Document) -> str:
    """Token of an owner, for a configuration with a store and keys."""
    url = document["store"]["url"]
    make_ready(url)
    engine = engine_for(url)
    try:
        desk = desk_of(parse({**document, "server": {}}), engine)
        return create_administrator(desk, Actor("cli:tests", OPERATOR), "root", "owner").secret
    finally:
        engine.dispose()
