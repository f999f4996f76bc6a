"""What was written down and comes back: answers in Redis, what was learnt, columns of the tables,
lines of the log. Others may have written there, of another version or on purpose.

Held to: what cannot be read is passed over, or refused by the one error that is declared; what is
read is of the kinds that it says, and is written as it was read.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import orjson

from relay.cache.semantic_redis import _ENCODER, _scored, _Value, _value
from relay.cache.stored import Batch, Stored
from relay.content import ChoiceFinished, FinishReason, ResponseInfo, TextDelta, Usage
from relay.governance.limits import Limits
from relay.governance.roll import BadRecord, Key, Organisation, Roll, Team, canonical_name
from relay.governance.scopes import BadScopes, Scopes
from relay.observability.experiments.from_log import observed_in
from relay.observability.experiments.rows import Notes
from relay.observability.report.from_log import generations_of
from relay.observability.report.rows import SourceNotes
from relay.resilience.breaker import BreakerSettings
from relay.resilience.limiter import LimiterSettings
from relay.store import learned
from relay.target_state import Kept, TargetState
from relay.whatif.recorded import read_log
from tests.fuzz.registry import Target

SETTINGS = (BreakerSettings(), LimiterSettings())


def check_answer(given: bytes) -> bool:
    found = Stored.decode(given)
    if found is None:
        return False
    assert found.batches
    assert all(batch.events for batch in found.batches)
    assert Stored.decode(found.encode()) == found
    found.age_s(0.0)
    return True


def check_meaning(given: bytes) -> bool:
    value = _value(given, b"p")
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
        _scored(msgspec.msgpack.decode(given))
    assert value is None or value.partition == b"p"
    return value is not None


def _state() -> TargetState:
    return TargetState(breaker=SETTINGS[0], limiter=SETTINGS[1], draw=lambda: 0.5)


def check_state(given: bytes) -> bool:
    """Lines of JSON: what several workers have kept of one target, the first one's our own."""
    rows: list[Kept] = []
    for line in given.split(b"\n"):
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(value, dict):
            rows.append(Kept(value, float(len(rows)), not rows))
    state = _state()
    state.take_up(rows, 1000.0)
    state.refresh(2000.0)
    again = orjson.dumps(state.to_dict(2000.0))
    orjson.dumps(state.describe(2000.0))
    fresh = _state()
    fresh.take_up([Kept(orjson.loads(again), 0.0, True)], 2000.0)
    return bool(rows)


@cache
def _database() -> sqlite3.Connection:
    path = Path(tempfile.mkdtemp(prefix="relay-fuzz-")) / "learned.db"
    learned.save(path, 0, {"a": {}}, 1.0)
    return sqlite3.connect(path, isolation_level=None)


def check_learned(given: bytes) -> bool:
    """A row of the table: its text, and what stands in the other columns."""
    database = _database()
    pick, name, state = given[0] if given else 0, b"a/m", given[1:]
    names: list[Any] = [name.decode(), name, 7, state]
    moments: list[Any] = [1.5, 7, "later", state]
    texts: list[Any] = [state.decode("utf-8", "replace"), state]
    row = (names[pick & 3], 1, moments[pick >> 2 & 3], texts[pick >> 4 & 1])
    database.execute("DELETE FROM learned")
    database.execute("INSERT INTO learned VALUES (?, ?, ?, ?)", row)
    path = Path(database.execute("PRAGMA database_list").fetchone()[2])
    try:
        found = learned.load(path, 0)
    except learned.StoreError:
        return False
    told: dict[Any, Any] = {**found}
    for name, rows in told.items():
        assert type(name) is str
        assert len(rows) <= learned.MAX_ROWS
    return bool(found)


def check_columns(given: bytes) -> bool:
    """Those of a key's row: its scopes, tags and limits."""
    text = given.decode("utf-8", "surrogateescape")
    taken = 0
    with contextlib.suppress(BadScopes):
        scopes = Scopes.from_json(text)
        assert Scopes.from_json(scopes.to_json()) == scopes
        scopes.allows_model("gpt-4o")
        taken += 1
    with contextlib.suppress(ValueError):
        limits = Limits.from_json(text)
        assert Limits.from_json(limits.to_json()) == limits
        taken += 1
    key = Key("k", Team("t", Organisation("o")))
    key.scopes, _, rest = text.partition("\n")
    key.tags, _, key.limits = rest.partition("\n")
    with contextlib.suppress(BadRecord):
        Roll().view(key)
        taken += 1
    assert canonical_name(canonical_name(text)) == canonical_name(text)
    return taken > 0


def check_log(given: bytes) -> bool:
    """What `relay replay`, `report` and `experiments` read: lines that are none are passed over."""
    lines = given.split(b"\n")
    log = read_log(lines)
    notes = SourceNotes()
    found = list(generations_of(lines, notes, since_us=None, until_us=None))
    observed_in(lines, None, None, Notes())
    return bool(log.requests) or bool(found)


ANSWER = Stored(
    "p",
    "m",
    1.5,
    7,
    [
        Batch(
            0,
            [ResponseInfo("r", "m", 1), TextDelta("Hi"), ChoiceFinished(FinishReason.STOP, "stop")],
        ),
        Batch(9, [Usage(1, 2, 3, raw_json=b"{}")]),
    ],
)


def states() -> list[bytes]:
    state = _state()
    written = orjson.dumps(state.to_dict(10.0))
    bent = written.replace(b"1.0", b"1e300")
    return [written, written + b"\n" + written, bent, b'{"tokens_ratio":2,"latency":{"v":1}}']


GENERATION = orjson.dumps(
    {
        "event": "generation", "timestamp": "2026-11-27T08:30:00+00:00", "frontend": "chat",
        "asked": "fast", "provider": "a", "model": "m", "status": "OK", "wall_us": 900_000,
        "prompt_tokens": 5, "completion_tokens": 7, "share": 1.0, "reason": None,
        "timeline_us": {"stream": 5, "stalls": 0, "first_content": 7},
        "decision": {"experiment": "e", "arm": "b", "unit": "u"}, "id": "gen_1",
        "wish": {"hedge": "auto"}, "hedge": {},
        "attempts": [
            {"target": "a/m", "started_us": 5, "first_content_us": 300, "ended_us": 900, "leg": "",
             "role": "first", "outcome": "won", "reason": None, "status": 200}
        ],
    }
)  # fmt: skip
FEEDBACK = b'{"event":"feedback","id":"gen_1","score":0.5}'
COLUMNS = (
    b'{"models":["gpt-*"],"may_hedge":false,"zones":["eu"]}\n["a"]\n{"rpm":5}',
    b'{"rpm":5,"input_tpm":null}',
    b"{}\n[]\n{}",
    b"DNS:Agent.Example",
)

TARGETS = {
    "answer": Target(check_answer, lambda: [ANSWER.encode(), ANSWER.encode()[:-3]]),
    "meaning": Target(
        check_meaning, lambda: [_ENCODER.encode(_Value(b"p", "t", ANSWER.encode())), b"\x90"]
    ),
    "state": Target(check_state, states),
    "learned": Target(check_learned, lambda: [b"\x00{}", b"\x10" + b"[" * 1500, b"\x16{}"]),
    "columns": Target(check_columns, lambda: COLUMNS),
    "log": Target(check_log, lambda: [GENERATION + b"\n" + FEEDBACK, GENERATION[:-9]]),
}
