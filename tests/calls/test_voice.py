"""The simulated voice: what was heard when."""

from __future__ import annotations

import asyncio

import pytest

from relay.calls.voice import Voice
from tests.fakes.virtual_time import now_s, on_virtual_time


@on_virtual_time
async def test_text_is_heard_at_its_rate() -> None:
    began_s = now_s()
    voice = Voice(10.0)
    voice.say("0123456789")
    assert await voice.until_heard(5)
    assert now_s() - began_s == pytest.approx(0.5)
    assert voice.heard_chars == 5
    voice.say("0123456789")
    assert await voice.until_heard(20)
    assert voice.spans_s == [pytest.approx((began_s, began_s + 2.0))]


@on_virtual_time
async def test_silence_between_two_pieces_is_a_gap() -> None:
    began_s = now_s()
    voice = Voice(10.0)
    voice.say("01234")
    await asyncio.sleep(1.0)
    voice.say("01234")
    await asyncio.sleep(0.25)
    assert voice.heard_chars == 7
    first, second = voice.spans_s
    assert first == pytest.approx((began_s, began_s + 0.5))
    assert second == pytest.approx((began_s + 1.0, began_s + 1.25))


@on_virtual_time
async def test_a_pause_keeps_what_is_unsaid() -> None:
    began_s = now_s()
    voice = Voice(10.0)
    voice.say("0123456789")
    await voice.until_heard(4)
    voice.pause()
    heard = asyncio.create_task(voice.until_heard(8))
    await asyncio.sleep(2.0)
    assert voice.heard_chars == 4
    voice.resume()
    assert await heard
    assert now_s() - began_s == pytest.approx(2.8)


@on_virtual_time
async def test_waiting_for_more_than_there_is_ends_with_the_text() -> None:
    voice = Voice(10.0)
    voice.say("01234")
    heard = asyncio.create_task(voice.until_heard(6))
    await asyncio.sleep(1.0)
    assert not heard.done()
    voice.no_more()
    assert not await heard


@on_virtual_time
async def test_a_stop_forgets_the_rest_and_a_finish_takes_it_as_heard() -> None:
    began_s = now_s()
    stopped, finished = Voice(10.0), Voice(10.0)
    for voice in (stopped, finished):
        voice.say("0123456789")
    await asyncio.sleep(0.3)
    stopped.stop()
    await asyncio.sleep(0.3)
    assert (stopped.heard_chars, stopped.text) == (3, "012")
    finished.finish()
    assert finished.heard_chars == 10
    assert now_s() - began_s == pytest.approx(0.6), "nobody waited"
    assert finished.spans_s[-1][1] == pytest.approx(began_s + 1.0)
