"""A policy over a log: what a failure was, the states are told again."""

from __future__ import annotations

import pytest

from relay.config import parse
from relay.routing.catalog import Catalog
from relay.whatif.draws import Draws
from relay.whatif.recorded import read_log
from relay.whatif.simulation import simulate
from tests.fakes.log_lines import attempt, line

ROW = {"wire": "openai_chat", "base_url": "https://x.test", "auth": "none"}


@pytest.mark.parametrize(("status", "is_ejected"), [(503, True), (529, False)])
def test_a_dead_host_is_left_alone_as_it_is_alive(status: int, is_ejected: bool) -> None:
    """Ten minutes of a host that answers nothing else, asked every second."""
    lines = [
        line(
            [
                attempt(
                    "a/m",
                    outcome="overload",
                    ended_us=5_000,
                    reason="UPSTREAM_OVERLOADED",
                    status=status,
                ),
                attempt("b/m", "failover", started_us=5_000, first_us=300_000),
            ],
            received_s=at,
        )
        for at in range(600)
    ]
    requests = read_log(lines).requests
    candidates = [{"provider": name, "model": "m"} for name in "ab"]
    catalog = Catalog(
        parse({"providers": {"a": ROW, "b": ROW}, "models": {"fast": {"candidates": candidates}}})
    )
    replayed = simulate(catalog, requests, Draws(requests))
    asked = sum(one.attempts[0].provider == "a" for one in replayed)
    assert (asked < 30) == is_ejected
    assert all(one.winner == "b/m" for one in replayed)
