"""The way of a denial to the log: it keeps nobody waiting, has bounds, and loses nothing unsaid."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance import audit_actions as actions
from relay.governance import audit_trail
from relay.governance.audit_anchor import AnchorError, AnchorFile
from relay.governance.audit_chain import EMPTY, Anchor, Entry, Head
from relay.governance.audit_checkpoint import AnchorRefused, Checkpoint
from relay.governance.audit_fold import MOST_ACTORS
from relay.governance.audit_trail import BATCH, FOLD_S, AuditTrail, NoTrail, Trail
from relay.governance.known_secrets import KnownSecrets
from relay.store.base import StoreUnavailable
from tests.fakes.audit_logs import KEY, START_US, Log
from tests.fakes.properties import examples


class NotWritten(StoreUnavailable):
    def __init__(self, head: Head | None) -> None:
        super().__init__("the disk is full")
        self.head = head


class World:
    """A trail without a thread, over a log in memory, on a clock that is set."""

    def __init__(self, *, max_waiting: int = 100, known: KnownSecrets | None = None) -> None:
        self.now_s = 1000.0
        self.log = Log()
        self.is_down = False
        self.loses_answer = False
        """Written, and then the connection is gone before it can say so."""
        self.unwanted = ""
        self.calls = 0
        self.checkpoints = 0
        self.refuses: Exception | None = None
        self.trail = AuditTrail(
            self.write,
            known=known,
            checkpoint=self.checkpoint,
            checkpoint_s=60.0,
            max_waiting=max_waiting,
            clock=lambda: self.now_s,
            now_us=lambda: round(self.now_s * 1_000_000),
        )

    def write(self, entries: Sequence[Entry], *, unless: Head | None = None) -> Head:
        self.calls += 1
        if any(entry.subject == self.unwanted != "" for entry in entries):
            raise ValueError("a value that the database does not take")
        if unless is not None and unless.seq <= len(self.log.rows):
            assert self.log.rows[unless.seq - 1].mac == unless.mac
            return unless
        if self.is_down:
            raise NotWritten(None)
        self.log.add(entries)
        if self.loses_answer:
            self.loses_answer = False
            raise NotWritten(self.log.head)
        return self.log.head

    def checkpoint(self, now_us: int) -> Anchor | None:
        self.checkpoints += 1
        if self.refuses is not None:
            raise self.refuses
        return None if self.log.head == EMPTY else Anchor.of(self.log.head, now_us, KEY)

    def deny(
        self, actor: str = "address:1", *, action: str = "key.denied", subject: str = ""
    ) -> None:
        self.trail.note(
            action,
            at_us=round(self.now_s * 1_000_000),
            actor=actor,
            subject=subject,
            outcome="denied",
            detail={"reason": "UNKNOWN"},
        )

    def load(self, number: int) -> None:
        self.trail.note(
            "config.loaded", at_us=number, actor="relay", subject=str(number), detail={"n": number}
        )

    def passes(self, seconds: float = FOLD_S) -> None:
        self.now_s += seconds
        self.trail.step()

    @property
    def entries(self) -> list[Entry]:
        return [row.entry for row in self.log.rows]

    def counted(self) -> int:
        """How many events the log tells of, those that were lost included."""
        total = 0
        for entry in self.entries:
            detail = json.loads(entry.detail)
            if entry.action == "audit.lost":
                total += sum(detail["lost"].values())
            else:
                total += detail.get("repeats", 1)
        return total


def test_event_becomes_an_entry() -> None:
    world = World()
    world.load(7)
    world.trail.step()
    assert world.entries == [
        Entry(7, "relay", "config.loaded", "7", "", "done", '{"n":7}'),
    ]
    assert world.trail.describe()["written"] == 1


def test_flood_of_one_caller_writes_two_entries_a_second() -> None:
    world = World()
    for _ in range(10):
        for _ in range(5000):
            world.deny()
            world.now_s += FOLD_S / 5000
        world.trail.step()
    world.passes()
    assert len(world.entries) <= 2 * 10 + 2
    assert world.counted() == 50_000


def test_flood_of_many_callers_has_a_bound_too() -> None:
    world = World(max_waiting=10_000)
    for number in range(20_000):
        world.deny(f"address:{number}")
    world.passes()
    world.passes()
    assert len(world.entries) <= MOST_ACTORS + 2
    assert world.counted() == 20_000


def test_what_is_no_denial_is_never_folded() -> None:
    world = World()
    for number in range(50):
        world.load(number)
    world.passes()
    assert [entry.subject for entry in world.entries] == [str(number) for number in range(50)]


def test_batches_have_a_bound() -> None:
    world = World(max_waiting=10_000)
    for number in range(BATCH + 1):
        world.load(number)
    world.trail.step()
    assert world.calls == 2
    assert len(world.entries) == BATCH + 1


# --- a database that is down ------------------------------------------------------------------


def test_entries_wait_for_the_database_and_none_is_lost() -> None:
    world = World()
    world.is_down = True
    for number in range(5):
        world.load(number)
        world.passes(0.1)
    assert world.trail.describe()["down"] == "the disk is full"
    assert world.trail.describe()["waiting"] == 5
    world.is_down = False
    world.passes(5.0)
    world.passes(0.0)
    assert [entry.subject for entry in world.entries] == ["0", "1", "2", "3", "4"]
    assert world.trail.describe()["down"] is None


def test_tries_become_rarer() -> None:
    world = World()
    world.is_down = True
    world.load(1)
    for _ in range(600):  # a minute
        world.passes(0.1)
    assert 10 <= world.calls <= 20


def test_what_has_no_room_is_counted_and_told() -> None:
    world = World(max_waiting=10)
    world.is_down = True
    world.load(0)
    world.passes()  # one batch in hand, and room for ten
    for number in range(1, 31):
        world.load(number)
    for number in range(7):
        world.deny(f"address:{number}")
    assert world.trail.describe()["lost"] == 27
    world.is_down = False
    world.passes(5.0)
    world.passes()
    assert [entry.subject for entry in world.entries][:11] == [str(n) for n in range(11)]
    (lost,) = [entry for entry in world.entries if entry.action == "audit.lost"]
    assert json.loads(lost.detail)["lost"] == {"config.loaded": 20, "key.denied": 7}
    assert lost.outcome == "failed"
    assert world.counted() == 38


def test_what_is_kept_of_a_long_outage_has_a_bound() -> None:
    world = World(max_waiting=10)
    world.is_down = True
    for number in range(500):
        world.load(number)
        world.deny(f"address:{number}")
        world.passes(0.5)
    kept = len(world.trail._waiting) + sum(map(len, world.trail._batches))
    assert kept <= 10 + 2
    world.is_down = False
    world.passes(5.0)
    world.passes()
    assert world.counted() == 1000


def test_batch_that_was_written_after_all_is_not_written_again() -> None:
    """The answer to a commit was lost: written once, whatever the database says first."""
    world = World()
    world.loses_answer = True
    world.load(1)
    world.trail.step()
    assert world.trail.describe()["down"] is not None
    world.passes(5.0)
    assert [entry.subject for entry in world.entries] == ["1"]
    assert world.trail.describe()["down"] is None
    world.load(2)
    world.passes()
    assert [entry.subject for entry in world.entries] == ["1", "2"]


def test_entry_that_no_database_takes_is_the_only_one_lost() -> None:
    world = World()
    world.unwanted = "2"
    for number in range(4):
        world.load(number)
    world.passes()
    world.passes()
    assert [entry.subject for entry in world.entries] == ["0", "1", "3", ""]
    assert json.loads(world.entries[-1].detail)["lost"] == {"config.loaded": 1}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("deny"), st.integers(0, 5)),
            st.tuples(st.just("load"), st.just(0)),
            st.tuples(st.just("flood"), st.integers(1, 300)),
            st.tuples(st.just("down"), st.integers(0, 1)),
            st.tuples(st.just("lose"), st.just(0)),
            st.tuples(st.just("time"), st.integers(1, 30)),
        ),
        max_size=40,
    )
)
@examples(60, full=3000)
def test_every_event_is_told_or_counted(acts: list[tuple[str, int]]) -> None:
    """Whatever comes in whatever order: told once, in numbers or as lost; kept within bounds."""
    world = World(max_waiting=20)
    sent = 0
    for act, argument in acts:
        match act:
            case "deny":
                world.deny(f"key:{argument}")
                sent += 1
            case "load":
                world.load(sent)
                sent += 1
            case "flood":
                for number in range(argument):
                    world.deny(f"address:{number}")
                sent += argument
            case "down":
                world.is_down = bool(argument)
            case "lose":
                world.loses_answer = True
            case "time":
                world.passes(argument / 10)
        assert len(world.trail._waiting) <= 20
    world.is_down = world.loses_answer = False
    for _ in range(4):
        world.passes(5.0)
    assert world.counted() == sent
    assert world.trail.describe()["waiting"] == 0
    world.log.anchor()
    assert world.log.verify().status == 0


# --- secrets ----------------------------------------------------------------------------------


def test_no_secret_gets_into_an_entry() -> None:
    canary = "canary-0123456789-abcdef"
    world = World(known=KnownSecrets([canary]))
    world.trail.note(
        "config.refused",
        at_us=START_US,
        actor=f"address:{canary}",
        subject="x" * 300 + canary,
        organisation_id=canary,
        detail={"fault": f"'{canary}' is wrong", canary: [{"a": canary}]},
    )
    world.trail.note(
        "key.denied", at_us=START_US, actor="token:rtk_0123456789abcdef.SECRETsecret0123456789"
    )
    world.passes()
    text = repr(world.log.rows)
    assert "canary" not in text
    assert "SECRETsecret" not in text
    assert "rtk_0123456789abcdef" in text


def test_reload_brings_other_secrets() -> None:
    """And what waits may hold the old ones."""
    old, new = "old-secret-0123456789", "new-secret-0123456789"
    world = World(known=KnownSecrets([old]))
    world.trail.note("config.refused", at_us=1, actor="relay", subject=old)
    world.trail.learn([new])
    world.trail.note("config.loaded", at_us=1, actor="relay", subject=new)
    world.passes()
    assert [entry.subject for entry in world.entries] == ["***", "***"]


# --- anchors ----------------------------------------------------------------------------------


def test_anchors_are_made_every_minute_and_at_the_end() -> None:
    world = World()
    world.load(1)
    for _ in range(130):
        world.passes(1.0)
    assert world.checkpoints == 3
    assert world.trail.describe()["anchored"] == 1
    world.load(2)
    world.trail.step(is_last=True)
    assert world.checkpoints == 4
    assert world.trail.describe()["anchored"] == 2


def test_log_that_cannot_be_anchored_says_so_once() -> None:
    world = World()
    world.refuses = AnchorRefused("the audit log has 2 entries, and 5 were anchored")
    for _ in range(130):
        world.passes(1.0)
    assert [entry.action for entry in world.entries] == [actions.ANCHOR_REFUSED]
    assert "5 were anchored" in world.trail.describe()["not_anchored"]
    for error in (AnchorError("no disk"), StoreUnavailable("down")):
        world.refuses = error
        world.passes(60.0)
        assert world.trail.describe()["not_anchored"] == str(error)
    world.refuses = None
    world.passes(60.0)
    assert world.trail.describe()["not_anchored"] is None


# --- the thread -------------------------------------------------------------------------------


async def test_thread_writes_and_ends(tmp_path: Path) -> None:
    log = Log()
    written = threading.Event()

    def write(entries: Sequence[Entry], *, unless: Head | None = None) -> Head:
        log.add(entries)
        written.set()
        return log.head

    class Memory:
        def head(self) -> Head:
            return log.head

        def mac_of(self, seq: int) -> bytes | None:
            return log.rows[seq - 1].mac

    path = tmp_path / "audit.anchor"
    anchors = Checkpoint(Memory(), AnchorFile(path, [KEY]), KEY)
    trail = AuditTrail(write, checkpoint=anchors.run)
    trail.start()
    trail.note("key.denied", at_us=1, actor="address:1", outcome="denied")
    assert written.wait(5.0)
    for _ in range(10):
        trail.note("key.denied", at_us=2, actor="address:1", outcome="denied")
    await trail.aclose()
    await trail.aclose()
    assert json.loads(log.rows[-1].entry.detail) == {"repeats": 10, "since_us": 1}
    assert b'"seq":2' in path.read_bytes()


async def test_database_that_hangs_keeps_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the loop, while it hangs, nor the end of the process."""
    monkeypatch.setattr(audit_trail, "STOP_S", 0.1)
    hangs, goes_on = threading.Event(), threading.Event()

    def write(entries: Sequence[Entry], *, unless: Head | None = None) -> Head:
        hangs.set()
        goes_on.wait(10.0)
        return EMPTY

    trail = AuditTrail(write, linger_s=0.0, max_waiting=100)
    trail.start()
    thread = trail._thread
    trail.note("config.loaded", at_us=1, actor="relay")
    assert hangs.wait(5.0)
    began_s = time.perf_counter()
    for number in range(10_000):
        trail.note("config.loaded", at_us=number, actor="relay")
    took_s = time.perf_counter() - began_s
    assert took_s < 5.0  # it hangs for ten
    assert trail.describe()["lost"] == 9900
    await trail.aclose()
    goes_on.set()
    assert thread is not None
    thread.join(5.0)
    assert not thread.is_alive()
    assert thread.daemon


def test_nothing_is_audited_without_a_trail() -> None:
    trail: Trail = NoTrail()
    trail.note("key.denied", at_us=1, actor="x")
    trail.learn(["secret"])
