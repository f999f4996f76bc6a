"""The single writer of a client stream: order, merging, back-pressure, a client that is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.content import (
    Events,
    OpaqueDelta,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
)
from relay.outbox import MAX_ANSWERS, Lane, Outbox
from tests.fakes.properties import examples
from tests.fakes.virtual_time import now_s, on_virtual_time, run, since_start_s


class Client:
    """Takes frames, as fast as it is told to."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.frames: list[str] = []
        self.times_s: list[float] = []
        self.is_writing = False
        self.fault: Exception | None = None
        self.fails_at = 1_000_000

    async def write(self, frame: bytes) -> None:
        assert not self.is_writing, "a stream takes one write at a time"
        self.is_writing = True
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if len(self.frames) >= self.fails_at:
                raise ConnectionResetError("gone")
        finally:
            self.is_writing = False
        self.frames.append(frame.decode())
        self.times_s.append(since_start_s())


class TextFrames:
    """A frame a take: the lane's name and its texts."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.largest = 0

    def output(self, events: Events) -> Sequence[bytes]:
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        self.largest = max(self.largest, len(text.encode()))
        return [f"{self.name}:{text}".encode()] if text else ()


def text(words: str) -> Events:
    return [TextDelta(words)]


def end_of(name: str) -> Callable[[], list[bytes]]:
    return lambda: [f"{name}:end".encode()]


class Setting:
    """An outbox with its writer running."""

    def __init__(self, client: Client | None = None) -> None:
        self.client = client or Client()
        self.outbox = Outbox(self.client.write)
        self.writer = asyncio.get_running_loop().create_task(self.outbox.run())
        self.first_writes: list[str] = []

    def lane(self, name: str, max_bytes: int = 100) -> Lane:
        return self.outbox.lane(TextFrames(name), max_bytes, lambda: self.first_writes.append(name))

    async def closed(self) -> list[str]:
        """Close, and what the client got."""
        self.outbox.close()
        await self.writer
        return self.client.frames


# --- order ----------------------------------------------------------------------------------


@on_virtual_time
async def test_frames_of_a_lane_come_in_order_and_the_end_last() -> None:
    setting = Setting()
    lane = setting.lane("a")
    for word in ("1", "2", "3"):
        lane.push(text(word))
        await asyncio.sleep(0.25)
    lane.finish(end_of("a"))
    assert await setting.closed() == ["a:1", "a:2", "a:3", "a:end"]
    assert setting.client.times_s == [0.0, 0.25, 0.5, 0.75]


@on_virtual_time
async def test_deltas_merge_while_the_writer_is_busy() -> None:
    setting = Setting(Client(delay_s=1.0))
    lane = setting.lane("a")
    for word in "abcd":
        lane.push(text(word))
        await asyncio.sleep(0.25)
    lane.finish(end_of("a"))
    assert await setting.closed() == ["a:a", "a:bcd", "a:end"]


@on_virtual_time
async def test_lanes_take_turns() -> None:
    setting = Setting(Client(delay_s=1.0))
    a, b = setting.lane("a"), setting.lane("b")
    a.push(text("1"))
    await asyncio.sleep(0.5)
    a.push(text("2"))
    b.push(text("1"))
    a.push(text("3"))
    assert await setting.closed() == ["a:1", "a:23", "b:1"]


@on_virtual_time
async def test_control_goes_before_what_waits() -> None:
    setting = Setting(Client(delay_s=1.0))
    a, b = setting.lane("a"), setting.lane("b")
    a.push(text("1"))
    await asyncio.sleep(0.5)
    b.push(text("1"))
    b.finish(end_of("b"))
    setting.outbox.control(b"pong 1")
    setting.outbox.control(b"pong 2")
    assert await setting.closed() == ["a:1", "pong 1", "pong 2", "b:1", "b:end"]


@on_virtual_time
async def test_cancelled_output_that_waits_is_dropped() -> None:
    setting = Setting(Client(delay_s=1.0))
    lane = setting.lane("a")
    lane.push(text("on its way"))
    await asyncio.sleep(0.5)
    lane.push(text("still waiting"))
    lane.finish(end_of("a"), drop_pending=True)
    assert await setting.closed() == ["a:on its way", "a:end"]


@on_virtual_time
async def test_end_is_made_after_the_output_before_it() -> None:
    """The last frame counts the characters that were sent, so it is encoded last."""
    setting = Setting(Client(delay_s=1.0))
    lane = setting.lane("a")
    order: list[str] = []

    def make() -> list[bytes]:
        order.append(f"end after {len(setting.client.frames)}")
        return [b"end"]

    lane.push(text("1"))
    await asyncio.sleep(0.5)
    lane.push(text("2"))
    lane.finish(make)
    await setting.closed()
    assert order == ["end after 1"]


@on_virtual_time
async def test_first_write_is_told_once_and_only_of_output() -> None:
    setting = Setting()
    lane = setting.lane("a")
    lane.push([ReasoningDelta("not wanted by this client")])
    await asyncio.sleep(1)
    assert setting.first_writes == []
    for word in "ab":
        lane.push(text(word))
        await asyncio.sleep(1)
    assert setting.first_writes == ["a"]
    await setting.closed()


@on_virtual_time
async def test_closing_writes_what_is_pending() -> None:
    setting = Setting(Client(delay_s=1.0))
    lane = setting.lane("a")
    setting.outbox.control(b"ready")
    lane.push(text("1"))
    assert await setting.closed() == ["ready", "a:1"]
    assert setting.outbox.is_closed


# --- back-pressure --------------------------------------------------------------------------


@on_virtual_time
async def test_full_lane_waits_until_its_output_is_handed_over() -> None:
    setting = Setting(Client(delay_s=1.0))
    lane = setting.lane("a", max_bytes=10)
    assert not lane.push(text("123456789"))
    await asyncio.sleep(0.5)
    assert not lane.push(text("12345"))
    assert lane.push(text("67890"))
    await lane.drained()
    assert since_start_s() == 2.0, "after the second write, not the first"
    await lane.drained()
    assert since_start_s() == 2.0, "nothing waits"
    await setting.closed()


@on_virtual_time
async def test_cancelled_wait_loses_nothing() -> None:
    setting = Setting(Client(delay_s=1.0))
    lane = setting.lane("a", max_bytes=1)
    lane.push(text("1"))
    await asyncio.sleep(0.5)
    lane.push(text("2"))
    waiting = asyncio.ensure_future(lane.drained())
    asyncio.get_running_loop().call_later(0.25, waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    lane.finish(end_of("a"))
    assert await setting.closed() == ["a:1", "a:2", "a:end"]


async def busy(count: int) -> Setting:
    """A frame is being written until 1.0, so many control frames wait, and it is 0.5."""
    setting = Setting(Client(delay_s=1.0))
    setting.outbox.control(b"first")
    await asyncio.sleep(0.5)
    for number in range(count):
        setting.outbox.control(f"pong {number}".encode())
    return setting


@on_virtual_time
async def test_answers_that_wait_leave_no_room_until_one_is_written() -> None:
    setting = await busy(MAX_ANSWERS - 1)
    outbox = setting.outbox
    await outbox.room()
    assert since_start_s() == 0.5, "there is room"
    setting.lane("refused").finish(end_of("refused"))  # ends are answers as well
    assert outbox.is_full
    await outbox.room()
    assert since_start_s() == 1.0
    outbox.control(b"one more")
    assert outbox.is_full
    assert len(await setting.closed()) == MAX_ANSWERS + 2


@on_virtual_time
async def test_ends_alone_leave_no_room() -> None:
    setting = await busy(0)
    for number in range(MAX_ANSWERS):
        setting.lane(str(number)).finish(end_of(str(number)))
    await setting.outbox.room()
    assert since_start_s() == 1.0, "when the next is being written"
    assert len(await setting.closed()) == MAX_ANSWERS + 1


@on_virtual_time
async def test_output_that_waits_takes_no_room() -> None:
    """A slow client with many generations must still be able to cancel them."""
    setting = await busy(0)
    for number in range(MAX_ANSWERS * 2):
        setting.lane(str(number)).push(text("word"))
    assert not setting.outbox.is_full
    setting.writer.cancel()
    await asyncio.wait([setting.writer])


@pytest.mark.parametrize("how", ["gone", "cancelled", "closed"])
def test_whoever_waits_for_room_is_released_with_the_outbox(how: str) -> None:
    @on_virtual_time
    async def check() -> None:
        setting = await busy(MAX_ANSWERS * 2)
        if how == "gone":
            setting.client.fails_at = 0
        elif how == "cancelled":
            asyncio.get_running_loop().call_later(0.5, setting.writer.cancel)
        else:
            setting.outbox.close()
        await setting.outbox.room()
        # Closed by us, what waits is still written.
        assert since_start_s() == (MAX_ANSWERS + 1.0 if how == "closed" else 1.0)
        await asyncio.gather(setting.writer, return_exceptions=True)
        if how == "closed":
            assert len(setting.client.frames) == MAX_ANSWERS * 2 + 1
            return
        for _ in range(MAX_ANSWERS * 2):
            setting.outbox.control(b"pong")
        assert not setting.outbox.is_full, "nothing is kept for a client that is gone"

    check()


@on_virtual_time
async def test_cancelled_wait_for_room_loses_nothing() -> None:
    setting = await busy(MAX_ANSWERS)
    waiting = asyncio.ensure_future(setting.outbox.room())
    asyncio.get_running_loop().call_later(0.25, waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert len(await setting.closed()) == MAX_ANSWERS + 1


@pytest.mark.parametrize(
    "event",
    [
        TextDelta("日" * 400),
        ReasoningDelta("x" * 1000),
        ToolArgumentsDelta(0, "x" * 1000),
        ToolCallDone(0, "c", "f", "x" * 1000),
        OpaqueDelta("logprobs", b"x" * 1000),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_kind_of_output_counts_by_its_size(event: StreamEvent) -> None:
    @on_virtual_time
    async def check() -> None:
        setting = Setting(Client(delay_s=1.0))
        assert setting.lane("a", max_bytes=1000).push([event])
        await setting.closed()

    check()


@st.composite
def scripts(draw: st.DrawFn) -> list[tuple[float, list[int]]]:
    """Of one producer: (pause, sizes of the texts of a batch)."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.0, 0.25, 1.0]),
                st.lists(st.integers(1, 30), min_size=1, max_size=3),
            ),
            min_size=1,
            max_size=12,
        )
    )


@examples(150)
@given(
    producers=st.lists(scripts(), min_size=1, max_size=3),
    delay_s=st.sampled_from([0.0, 0.25, 1.0]),
    controls=st.lists(st.sampled_from([0.0, 0.5, 2.0]), max_size=4),
)
def test_any_interleaving_keeps_order_and_the_bound(
    producers: list[list[tuple[float, list[int]]]], delay_s: float, controls: list[float]
) -> None:
    max_bytes = 40
    largest_batch = max(sum(sizes) for script in producers for _, sizes in script)

    async def produce(lane: Lane, script: list[tuple[float, list[int]]], name: str) -> str:
        sent = ""
        for pause_s, sizes in script:
            if pause_s:
                await asyncio.sleep(pause_s)
            words = [chr(97 + len(sent) % 26) * size for size in sizes]
            sent += "".join(words)
            if lane.push([TextDelta(word) for word in words]):
                await lane.drained()
        lane.finish(end_of(name))
        return sent

    async def main() -> None:
        setting = Setting(Client(delay_s))
        for at_s in controls:
            asyncio.get_running_loop().call_later(at_s, setting.outbox.control, b"control")
        frames = {str(index): TextFrames(str(index)) for index in range(len(producers))}
        lanes = {
            name: setting.outbox.lane(made, max_bytes, partial(setting.first_writes.append, name))
            for name, made in frames.items()
        }
        sent = await asyncio.gather(
            *(
                produce(lane, script, name)
                for (name, lane), script in zip(lanes.items(), producers, strict=True)
            )
        )
        await asyncio.sleep(10)
        await setting.closed()
        for name, whole in zip(lanes, sent, strict=True):
            got = [f.partition(":")[2] for f in setting.client.frames if f.startswith(f"{name}:")]
            assert got[-1] == "end"
            assert got.count("end") == 1
            assert "".join(got[:-1]) == whole
            assert frames[name].largest < max_bytes + largest_batch
        assert sorted(setting.first_writes) == sorted(lanes)
        assert setting.client.frames.count("control") == len(controls)

    run(main())


# --- a client that is gone ------------------------------------------------------------------


@on_virtual_time
async def test_failed_write_releases_everybody() -> None:
    client = Client(delay_s=1.0)
    client.fails_at = 1
    setting = Setting(client)
    a, b = setting.lane("a", max_bytes=1), setting.lane("b", max_bytes=1)
    a.push(text("1"))
    await asyncio.sleep(0.5)
    a.push(text("2"))  # its write begins at 1.0, and fails
    b.push(text("1"))  # waits behind it
    await asyncio.gather(a.drained(), b.drained())
    assert since_start_s() == 2.0
    with pytest.raises(ConnectionResetError):
        await setting.writer
    assert setting.outbox.is_closed
    assert setting.client.frames == ["a:1"]


@on_virtual_time
async def test_nothing_is_kept_for_a_client_that_is_gone() -> None:
    client = Client()
    client.fails_at = 0
    setting = Setting(client)
    lane = setting.lane("a", max_bytes=10)
    frames = TextFrames("b")
    late = setting.outbox.lane(frames, 10, lambda: None)
    lane.push(text("1"))
    with pytest.raises(ConnectionResetError):
        await setting.writer
    for _ in range(100):
        assert not lane.push(text("x" * 1000)), "never full: there is nothing to wait for"
        assert not late.push(text("x" * 1000))
        await lane.drained()
    assert (list(lane.take()), list(late.take())) == ([], [])
    setting.outbox.control(b"pong")
    lane.finish(end_of("a"))
    setting.outbox.close()


@on_virtual_time
async def test_cancelled_writer_releases_everybody() -> None:
    setting = Setting(Client(delay_s=60.0))
    lane = setting.lane("a", max_bytes=1)
    lane.push(text("1"))
    await asyncio.sleep(0.25)
    lane.push(text("2"))
    asyncio.get_running_loop().call_later(0.5, setting.writer.cancel)
    await lane.drained()
    assert since_start_s() == 0.75
    with pytest.raises(asyncio.CancelledError):
        await setting.writer


# --- a client that takes nothing --------------------------------------------------------------


class Stuck:
    """A client that takes a frame when it is told to."""

    def __init__(self) -> None:
        self.frames: list[str] = []
        self.taken = asyncio.Semaphore(0)

    async def write(self, frame: bytes) -> None:
        await self.taken.acquire()
        self.frames.append(frame.decode())


class Watched:
    """An outbox with a limit of 1 s, and who was told that the client is too slow, and when."""

    def __init__(self) -> None:
        self.client = Stuck()
        self.outbox = Outbox(self.client.write, now_s, 1.0)
        self.writer = asyncio.get_running_loop().create_task(self.outbox.run())
        self.told: list[tuple[str, float]] = []

    def lane(self, name: str) -> Lane:
        return self.outbox.lane(
            TextFrames(name),
            1_000_000,
            lambda: None,
            lambda: self.told.append((name, since_start_s())),
        )

    async def over(self) -> None:
        self.outbox.give_up()
        self.client.taken.release()
        await self.writer


@on_virtual_time
async def test_little_output_that_nobody_takes_is_noticed() -> None:
    setting = Watched()
    lane = setting.lane("a")
    for _ in range(7):  # a trickle, the lane is never full
        lane.push(text("x"))
        await asyncio.sleep(0.25)
    assert setting.told == [("a", 1.0)]
    await asyncio.sleep(1.0)
    assert setting.told == [("a", 1.0), ("a", 2.0)]
    await setting.over()


@on_virtual_time
async def test_each_lane_is_given_the_whole_time() -> None:
    setting = Watched()
    setting.outbox.control(b"pong")
    await asyncio.sleep(0.5)
    setting.lane("a").push(text("x"))
    setting.lane("silent")
    await asyncio.sleep(0.25)
    setting.lane("b").push(text("x"))
    await asyncio.sleep(1.125)
    first = dict(reversed(setting.told))
    assert first == {"a": 1.5, "b": 1.75}
    await setting.over()


@on_virtual_time
async def test_any_progress_is_progress() -> None:
    setting = Watched()
    lane = setting.lane("a")
    for _ in range(8):
        lane.push(text("x"))
        await asyncio.sleep(0.75)
        setting.client.taken.release()
    assert setting.told == []
    await setting.over()


@on_virtual_time
async def test_stream_that_was_idle_is_not_slow() -> None:
    setting = Watched()
    lane = setting.lane("a")
    setting.client.taken.release()
    lane.push(text("x"))
    await asyncio.sleep(0.999)
    lane.push(text("x"))  # the timer of the first one is about to fire
    await asyncio.sleep(0.5)
    setting.client.taken.release()
    await asyncio.sleep(10)
    assert setting.told == []
    lane.push(text("x"))
    await asyncio.sleep(1.5)
    assert setting.told == [("a", since_start_s() - 0.5)]
    await setting.over()


@on_virtual_time
async def test_giving_up_drops_what_waits_and_waits_for_what_is_written() -> None:
    setting = Watched()
    lanes = [setting.lane(name) for name in "ab"]
    for lane in lanes:
        lane.push(text("x"))
    await asyncio.sleep(0.1)
    draining = asyncio.create_task(lanes[1].drained())
    await asyncio.sleep(0.1)
    setting.outbox.give_up()
    await draining
    lanes[0].push(text("more"))
    lanes[0].finish(end_of("a"))
    assert not setting.writer.done()
    setting.client.taken.release()
    await setting.writer
    assert setting.client.frames == ["a:x"]
    assert setting.told == []


@on_virtual_time
async def test_closing_gives_the_last_frames_their_time() -> None:
    setting = Watched()
    setting.lane("a").push(text("x"))
    await asyncio.sleep(0.75)
    assert setting.outbox.patience_s() == 0.25
    setting.outbox.close()
    assert setting.outbox.patience_s() == 1.0
    await asyncio.sleep(1.0)
    assert setting.outbox.patience_s() == 0.0
    await setting.over()
    assert Outbox(setting.client.write).patience_s() is None
