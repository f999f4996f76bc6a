"""Looks at the store: how often, what a failed one leads to, and that none holds anything up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from relay.errors import Unauthenticated
from relay.governance.directory import Directory
from relay.governance.directory_sync import DirectorySync, in_a_thread
from relay.governance.token_text import mint
from relay.store.base import StoreUnavailable
from relay.store.directory_rows import Changes, Row
from tests.fakes.keys import (
    NOW_US,
    PEPPERS,
    credential_row,
    key_row,
    organisation_row,
    team_row,
    whole,
)
from tests.fakes.virtual_time import now_s, on_virtual_time

MINE = mint("virtual key")
ROWS: tuple[Row, ...] = (organisation_row(), team_row(), key_row(), credential_row(MINE))


class FakeStore:
    """Answers after `takes_s` of virtual time, or never."""

    def __init__(self) -> None:
        self.rows: tuple[Row, ...] = ROWS
        self.revision = 1
        self.fault: Exception | None = None
        self.takes_s = 0.0
        self.hangs = False
        self.asked: list[tuple[float, int | None]] = []
        self.hanging: list[asyncio.Future[Changes]] = []

    def changes(self, since: int | None) -> Changes:
        self.asked.append((now_s(), since))
        if self.fault is not None:
            raise self.fault
        if since is None:
            return whole(*self.rows, revision=self.revision)
        return Changes(self.revision, tuple(row for row in self.rows if row.changed > since))

    def in_background(self, work: Callable[[], Changes]) -> asyncio.Future[Changes]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Changes] = loop.create_future()

        def finish() -> None:
            if future.done():
                return
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - raised where it is waited for
                future.set_exception(error)

        if self.hangs:
            self.hanging.append(future)
        else:
            loop.call_later(self.takes_s, finish)
        return future


def synced(store: FakeStore) -> tuple[Directory, DirectorySync]:
    directory = Directory(PEPPERS, now_s, stale_s=60, behind_s=2)
    sync = DirectorySync(
        directory, store, now_s, interval_s=0.25, look_s=5.0, in_background=store.in_background
    )
    return directory, sync


def may(directory: Directory) -> bool:
    try:
        return directory.identify(MINE.text, NOW_US).key_id == "key_1"
    except Unauthenticated:
        return False


def behind(directory: Directory) -> bool:
    return directory.is_behind


@on_virtual_time
async def test_a_revocation_holds_within_a_second() -> None:
    store = FakeStore()
    directory, sync = synced(store)
    assert await sync.start()
    assert may(directory)
    store.takes_s = 0.5
    store.rows = (key_row(is_revoked=True, changed=2),)
    store.revision = 2
    began_s = now_s()
    while may(directory):
        await asyncio.sleep(0.01)
    assert now_s() - began_s < 1
    await sync.aclose()


@on_virtual_time
async def test_looks_are_an_interval_apart_and_not_in_step() -> None:
    store = FakeStore()
    _, sync = synced(store)
    await sync.start()
    await asyncio.sleep(10)
    await sync.aclose()
    times_s = [at_s for at_s, _ in store.asked]
    gaps_s = [b - a for a, b in pairwise(times_s)]
    assert all(0.225 <= gap_s <= 0.275 for gap_s in gaps_s)
    assert len(set(gaps_s)) > 5
    assert {since for _, since in store.asked[1:]} == {1}
    await asyncio.sleep(10)
    assert len(store.asked) == len(times_s)


@on_virtual_time
async def test_who_knows_of_a_change_is_heard_at_once() -> None:
    store = FakeStore()
    directory, sync = synced(store)
    await sync.start()
    store.rows, store.revision = (key_row(is_revoked=True, changed=2),), 2
    sync.look_now()
    await asyncio.sleep(0.001)
    assert not may(directory)
    await sync.aclose()


@on_virtual_time
async def test_after_looks_that_fail_everything_is_read() -> None:
    store = FakeStore()
    directory, sync = synced(store)
    await sync.start()
    store.fault = StoreUnavailable("gone")
    await asyncio.sleep(20)
    assert behind(directory)
    assert may(directory), "for a minute"
    gaps_s = [b - a for (a, _), (b, _) in zip(store.asked[-4:], store.asked[-3:], strict=False)]
    assert all(1.8 <= gap_s <= 2.2 for gap_s in gaps_s), "the longer, the less often"
    store.fault = None
    store.rows = (organisation_row(), team_row())  # another copy, of the same number
    await asyncio.sleep(2.5)
    assert store.asked[-1][1] == 1
    assert None in [since for _, since in store.asked[-12:]]
    assert not behind(directory)
    assert not may(directory)
    await sync.aclose()


@on_virtual_time
async def test_a_store_that_is_not_there_at_the_start_is_tried_further() -> None:
    store = FakeStore()
    store.fault = StoreUnavailable("not yet")
    directory, sync = synced(store)
    assert not await sync.start()
    assert not directory.is_loaded
    store.fault = None
    await asyncio.sleep(1)
    assert may(directory)
    await sync.aclose()


@on_virtual_time
async def test_a_look_that_hangs_has_failed_and_no_other_begins_beside_it() -> None:
    store = FakeStore()
    directory, sync = synced(store)
    await sync.start()
    looks = len(store.asked)
    store.hangs = True
    await asyncio.sleep(30)
    assert behind(directory)
    assert len(store.hanging) == 1
    store.hangs = False
    store.hanging[0].set_result(whole(revision=9))  # of half a minute ago: of no use
    await asyncio.sleep(3)
    assert not behind(directory)
    assert may(directory)
    assert store.asked[looks][1] is None
    await sync.aclose()


@on_virtual_time
async def test_it_ends_while_a_look_hangs() -> None:
    store = FakeStore()
    _, sync = synced(store)
    await sync.start()
    store.hangs = True
    await asyncio.sleep(3)
    began_s = now_s()
    await sync.aclose()
    await sync.aclose()
    assert now_s() - began_s <= 1
    assert store.hanging[0].cancelled()


@on_virtual_time
async def test_a_bug_does_not_end_the_looking() -> None:
    store = FakeStore()
    directory, sync = synced(store)
    await sync.start()
    store.fault = KeyError("a bug")
    await asyncio.sleep(3)
    assert behind(directory)
    store.fault = None
    await asyncio.sleep(3)
    assert not behind(directory)
    await sync.aclose()


@on_virtual_time
async def test_age_counts_from_the_beginning_of_a_look() -> None:
    store = FakeStore()
    directory, sync = synced(store)
    store.takes_s = 3.0
    await sync.start()
    assert behind(directory), "what it has told is three seconds old"
    await sync.aclose()


async def test_a_thread_gives_its_result_or_fault() -> None:
    assert await in_a_thread(lambda: Changes(3)) == Changes(3)

    def fails() -> Changes:
        raise StoreUnavailable("x")

    with pytest.raises(StoreUnavailable):
        await in_a_thread(fails)
