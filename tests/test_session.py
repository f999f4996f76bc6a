"""One client stream: every start gets exactly one end, and nothing after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import Events, GenerateRequest, TextDelta, ToolCallDone
from relay.errors import (
    CancelReason,
    ClientCancelled,
    DuplicateGeneration,
    InvalidRequest,
    NotImplementedYet,
)
from relay.generation import Generation
from relay.outbox import Outbox
from relay.outcome import GenerationEnd
from relay.session import REMEMBERED_IDS, Session
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.properties import examples
from tests.fakes.scenario import Rows, Scenario, answer, request
from tests.fakes.virtual_time import now_s, on_virtual_time, run, since_start_s

WORDS = ("one ", "two ", "three ", "four")
WHOLE = "".join(WORDS)
SPEAKS = FakeEndpoint(headers_s=0.25, chunks=answer(*WORDS, first_s=0.25, gap_s=0.25))


class LineFrames:
    """Frames one can read: `id|kind|content`."""

    def __init__(self, generation_id: str) -> None:
        self._id = generation_id

    def started(self) -> bytes:
        return f"{self._id}|started|".encode()

    def output(self, events: Events) -> Sequence[bytes]:
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        frames = [f"{self._id}|text|{text}".encode()] if text else []
        calls = [event.name for event in events if isinstance(event, ToolCallDone)]
        return [*frames, *(f"{self._id}|call|{name}".encode() for name in calls)]

    def rest(self, end: GenerationEnd) -> Sequence[bytes]:
        return ()

    def end(self, end: GenerationEnd, generation: Generation | None) -> bytes:
        if end.error is None:
            how = "OK"
        elif isinstance(end.error, ClientCancelled):
            how = f"CANCELLED {end.error.why.name}"
        else:
            how = end.error.reason.name
        return f"{self._id}|end|{how}".encode()


@dataclass
class Client:
    """The other side: takes frames, or does not for a while, or is gone."""

    write_s: float = 0.0
    gone_at_s: float | None = None
    frames: list[tuple[str, str, str]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)

    async def write(self, frame: bytes) -> None:
        if self.write_s:
            await asyncio.sleep(self.write_s)
        if self.gone_at_s is not None and since_start_s() >= self.gone_at_s:
            raise ConnectionResetError("gone")
        name, kind, content = frame.decode().split("|")
        self.frames.append((name, kind, content))
        self.times_s.append(since_start_s())

    def of(self, name: str) -> list[tuple[str, str]]:
        """Kinds and contents of one generation's frames."""
        return [(kind, content) for its, kind, content in self.frames if its == name]


class Call:
    """A session with its writer, over scripted providers."""

    def __init__(
        self, rows: Rows | None = None, *, client: Client | None = None, max_live: int = 8
    ) -> None:
        self.scenario = Scenario(rows or {"a": SPEAKS})
        self.client = client or Client()
        self.outbox = Outbox(self.client.write)
        self.session = Session(self.scenario.services, self.outbox, max_live)
        self.writer = asyncio.get_running_loop().create_task(self.outbox.run())

    def start(
        self,
        name: str,
        make_request: Callable[[], GenerateRequest] | None = None,
        supersedes: Sequence[str] = (),
    ) -> None:
        self.session.start(
            name, f"gen_{name}", LineFrames(name), make_request or request, now_s(), supersedes
        )

    async def half_close(self) -> None:
        """The client starts nothing more; what runs may finish."""
        await self.session.finished()
        self.outbox.close()
        await asyncio.wait([self.writer])
        await self.scenario.settled()
        self.scenario.check()
        assert len(self.session) == 0


def at(delay_s: float, act: Callable[..., object], *args: object) -> None:
    asyncio.get_running_loop().call_later(delay_s, act, *args)


# --- one generation -------------------------------------------------------------------------


@on_virtual_time
async def test_started_output_end() -> None:
    call = Call()
    call.start("g1")
    await call.half_close()
    assert call.client.frames == [
        ("g1", "started", ""),
        *(("g1", "text", word) for word in WORDS),
        ("g1", "end", "OK"),
    ]
    assert call.client.times_s == [0.0, 0.5, 0.75, 1.0, 1.25, 1.25]


@on_virtual_time
async def test_slow_client_gets_merged_output() -> None:
    call = Call(client=Client(write_s=0.5))
    call.start("g1")
    await call.half_close()
    texts = [content for kind, content in call.client.of("g1") if kind == "text"]
    assert "".join(texts) == WHOLE
    assert len(texts) < len(WORDS)


@pytest.mark.parametrize(
    ("at_s", "spoken"), [(0.125, ""), (0.625, "one "), (1.125, "one two three ")]
)
def test_cancelled_generation_ends_at_once(at_s: float, spoken: str) -> None:
    @on_virtual_time
    async def check() -> None:
        call = Call()
        call.start("g1")
        at(at_s, call.session.cancel, "g1", CancelReason.BARGE_IN)
        await call.half_close()
        *before, last = call.client.of("g1")
        assert last == ("end", "CANCELLED BARGE_IN")
        assert "".join(content for _, content in before) == spoken
        assert call.client.times_s[-1] == at_s
        assert call.scenario.aborted == [("a", at_s)]

    check()


@on_virtual_time
async def test_cancel_right_after_its_start_sends_nothing_upstream() -> None:
    call = Call()
    call.start("g1")
    call.session.cancel("g1", CancelReason.SUPERSEDED)
    await call.half_close()
    assert call.client.of("g1") == [("started", ""), ("end", "CANCELLED SUPERSEDED")]
    assert call.scenario.started == []


@on_virtual_time
async def test_output_that_waits_is_dropped_by_a_cancel_and_kept_by_a_failure() -> None:
    cut = FakeEndpoint(headers_s=0.25, chunks=answer(*WORDS, first_s=0.25, gap_s=0.25)[:-2])
    for rows, expected in (
        ({"a": SPEAKS}, "one two "),
        ({"a": cut}, WHOLE),
    ):
        call = Call(rows, client=Client(write_s=0.5))
        call.start("g1")
        if rows["a"] is SPEAKS:
            await asyncio.sleep(1.0625)  # "two " is being written, "three " waits
            call.session.cancel("g1", CancelReason.BARGE_IN)
        await call.half_close()
        text = "".join(content for kind, content in call.client.of("g1") if kind == "text")
        assert text == expected


@on_virtual_time
async def test_cancel_of_unknown_and_ended_ids_does_nothing() -> None:
    call = Call()
    call.session.cancel("nobody", CancelReason.BARGE_IN)
    call.start("g1")
    await call.session.finished()
    call.session.cancel("g1", CancelReason.BARGE_IN)
    await call.half_close()
    assert call.client.of("g1")[-1] == ("end", "OK")


# --- refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "how"),
    [
        (InvalidRequest("no messages", field="x"), "INVALID_REQUEST"),
        (NotImplementedYet("later"), "NOT_IMPLEMENTED"),
        (KeyError("a bug of ours"), "INTERNAL"),
    ],
)
def test_start_that_cannot_be_read_ends_at_once(refusal: Exception, how: str) -> None:
    @on_virtual_time
    async def check() -> None:
        def unreadable() -> GenerateRequest:
            raise refusal

        call = Call()
        call.start("g1", unreadable)
        call.start("g2")
        await call.half_close()
        assert call.client.of("g1") == [("end", how)]
        assert call.client.of("g2")[-1] == ("end", "OK")

    check()


@on_virtual_time
async def test_one_generation_too_many_is_refused_and_a_place_is_free_again_later() -> None:
    call = Call(max_live=2)
    for name in ("g1", "g2", "g3"):
        call.start(name)
    await call.session.finished()
    call.start("g4")
    await call.half_close()
    assert call.client.of("g3") == [("end", "TOO_MANY_GENERATIONS")]
    for name in ("g1", "g2", "g4"):
        assert call.client.of(name)[-1] == ("end", "OK")


@on_virtual_time
async def test_id_is_used_once() -> None:
    call = Call(max_live=1)
    call.start("g1")
    call.start("refused")
    for name in ("g1", "refused"):
        with pytest.raises(DuplicateGeneration):
            call.start(name)
    await call.session.finished()
    with pytest.raises(DuplicateGeneration):
        call.start("g1")
    await call.half_close()
    assert [kind for kind, _ in call.client.of("g1")].count("end") == 1
    assert len(call.client.of("refused")) == 1


@on_virtual_time
async def test_remembered_ids_are_bounded_and_live_ones_never_forgotten() -> None:
    call = Call(max_live=1)
    call.start("first")
    for index in range(REMEMBERED_IDS + 10):
        call.start(f"n{index}")  # refused: one runs already
    assert len(call.session._used) <= REMEMBERED_IDS + 1
    with pytest.raises(DuplicateGeneration):
        call.start("first")
    with pytest.raises(DuplicateGeneration):
        call.start(f"n{REMEMBERED_IDS + 9}")
    call.start("n0")  # forgotten
    await call.half_close()


# --- many generations -----------------------------------------------------------------------


@on_virtual_time
async def test_failure_of_one_leaves_the_others_alone() -> None:
    call = Call()
    call.start("g1")
    call.start("g2", lambda: request(model="nobody"))
    await call.half_close()
    assert call.client.of("g2") == [("end", "UNKNOWN_MODEL")]
    assert call.client.of("g1")[-1] == ("end", "OK")


@on_virtual_time
async def test_start_on_a_draining_worker_is_refused_without_started() -> None:
    call = Call()
    call.start("g1")
    call.scenario.services.is_draining = True
    call.start("g2")
    await call.half_close()
    assert call.client.of("g2") == [("end", "DRAINING")]


@on_virtual_time
async def test_cancel_all_and_close() -> None:
    call = Call()
    for name in ("g1", "g2"):
        call.start(name)
    assert len(call.session) == 2
    await asyncio.sleep(0.375)
    call.session.cancel_all(CancelReason.SESSION_END)
    await call.session.aclose()
    await call.session.aclose()
    await call.half_close()
    for name in ("g1", "g2"):
        assert call.client.of(name)[-1] == ("end", "CANCELLED SESSION_END")
    assert call.scenario.aborted == [("a", 0.375), ("a", 0.375)]


@on_virtual_time
async def test_client_that_is_gone_costs_nothing_more() -> None:
    call = Call(client=Client(gone_at_s=0.75))
    call.start("g1")
    await asyncio.sleep(0.875)
    assert call.outbox.is_closed
    await call.session.aclose()
    await call.half_close()
    assert call.scenario.aborted == [("a", 0.875)]
    with pytest.raises(ConnectionResetError):
        await call.writer


# --- any interleaving -----------------------------------------------------------------------


@dataclass
class Act:
    """What the client does, and how long after the act before."""

    pause_s: float
    what: str
    name: str


pauses_s = st.sampled_from([0.0, 0.0, 0.25, 0.25, 0.5, 2.0])
acts = st.builds(
    Act,
    pauses_s,
    st.sampled_from(["start", "start", "start", "unknown model", "unreadable", "cancel", "all"]),
    st.sampled_from(["g1", "g2", "g3", "g4"]),
)
providers = st.sampled_from(
    [
        SPEAKS,
        FakeEndpoint(chunks=answer(*WORDS)),
        FakeEndpoint(headers_s=0.25, chunks=answer(*WORDS, first_s=0.25, gap_s=0.25)[:-2]),
        FakeEndpoint(headers_s=0.25, status=503),
    ]
)


@examples(200)
@given(
    acts=st.lists(acts, max_size=12),
    provider=providers,
    write_s=st.sampled_from([0.0, 0.0, 0.25, 1.0]),
    max_live=st.integers(1, 3),
)
def test_any_session_keeps_the_contract(
    acts: list[Act], provider: FakeEndpoint, write_s: float, max_live: int
) -> None:
    def unreadable() -> GenerateRequest:
        raise InvalidRequest("no")

    makers: dict[str, Callable[[], GenerateRequest]] = {
        "start": request,
        "unknown model": lambda: request(model="nobody"),
        "unreadable": unreadable,
    }

    async def main() -> None:
        call = Call({"a": provider}, client=Client(write_s), max_live=max_live)
        names: list[str] = []
        for act in acts:
            if act.pause_s:
                await asyncio.sleep(act.pause_s)
            if act.what == "cancel":
                call.session.cancel(act.name, CancelReason.BARGE_IN)
            elif act.what == "all":
                call.session.cancel_all(CancelReason.SUPERSEDED)
            elif act.name in names:
                with pytest.raises(DuplicateGeneration):
                    call.start(act.name, makers[act.what])
            else:
                names.append(act.name)
                call.start(act.name, makers[act.what])
            assert len(call.session) <= max_live
        await call.half_close()
        assert {name for name, _, _ in call.client.frames} == set(names)
        for name in names:
            frames = call.client.of(name)
            kinds = [kind for kind, _ in frames]
            assert kinds.count("end") == 1, "exactly one end"
            assert kinds[-1] == "end", "nothing after it"
            assert kinds[:-1] == ["started", *["text"] * (len(kinds) - 2)][: len(kinds) - 1]
            text = "".join(content for kind, content in frames if kind == "text")
            assert WHOLE.startswith(text), "one provider's words, in order"
            if frames[-1][1] == "OK":
                assert text == WHOLE

    run(main())
