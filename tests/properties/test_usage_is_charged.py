"""What a client is told of its usage is what the books have, and what they have is what it costs
(T8): whatever the provider counts, streamed or whole."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.properties import examples
from tests.fakes.relay_under_test import chat_body, eventually, sse_payloads
from tests.properties.keyed_lab import CHAT, KeyedLab, keyed_lab

pytestmark = pytest.mark.sockets

Running = tuple[asyncio.Runner, KeyedLab]
COUNTS = st.integers(0, 5000) | st.sampled_from([-1, 10**12, 0, 7.5, None, "9"])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with keyed_lab(tmp_path_factory.mktemp("lab")) as found:
        yield found


async def told_and_booked(
    lab: KeyedLab, usage: dict[str, Any], *, is_streamed: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The usage in the answer, and the row of the attempt that gave it, with what was settled."""
    text = orjson.dumps(usage).decode()
    more = {"stream_options": {"include_usage": True}} if is_streamed else {"stream": False}
    told = await lab.post("team 0", CHAT, chat_body(text=text, **more))
    assert told.status_code == 200, told.text
    reported = sse_payloads(told.text)[-1]["usage"] if is_streamed else told.json()["usage"]
    request_id = told.headers["x-relay-request-id"]
    sql = (
        "SELECT a.prompt_tokens, a.output_tokens, g.settled_micro, g.state FROM generations g"
        " JOIN attempts a ON a.generation_id = g.id WHERE g.id = :id AND a.is_winner = 1"
    )

    def is_booked() -> bool:
        return any(row["state"] != "open" for row in lab.books.rows(sql, id=request_id))

    await eventually(is_booked)
    (row,) = lab.books.rows(sql, id=request_id)
    return reported, row


@examples(60, full=2000)
@given(
    usage=st.fixed_dictionaries(
        {}, optional={"prompt_tokens": COUNTS, "completion_tokens": COUNTS, "total_tokens": COUNTS}
    ),
    is_streamed=st.booleans(),
)
def test_what_is_told_is_what_is_booked(
    running: Running, usage: dict[str, Any], is_streamed: bool
) -> None:
    runner, lab = running
    reported, row = runner.run(told_and_booked(lab, usage, is_streamed=is_streamed))
    counted = (row["prompt_tokens"], row["output_tokens"])
    assert (reported["prompt_tokens"], reported["completion_tokens"]) == counted
    assert min(counted) >= 0
    assert row["settled_micro"] == counted[0] + 10 * counted[1], "another amount than it comes to"
