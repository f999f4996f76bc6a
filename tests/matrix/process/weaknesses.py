"""What is taken away from a relay that is a process of its own (see `tests.matrix.weakened`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.matrix.row import Without


def nobody_is_waited_for(patch: pytest.MonkeyPatch) -> None:
    """The wait of a drain for what runs."""
    from relay.dispatch import Live

    async def at_once(_: Live) -> None:
        return

    patch.setattr(Live, "idle", at_once)


def one_stop_is_like_two(patch: pytest.MonkeyPatch) -> None:
    """What a second signal means."""
    from relay.server import Worker

    patch.setattr(Worker, "stop", lambda worker: worker._stop_requested.set())


def signals_are_the_systems(patch: pytest.MonkeyPatch) -> None:
    """The handlers that stand from the very start on."""
    from relay.serving import _Signals

    patch.setattr(_Signals, "_listen", _nothing)


def rows_are_not_needed(patch: pytest.MonkeyPatch) -> None:
    """That nothing is admitted without its row."""
    from tests.matrix.process import disks

    disks.rows_are_not_needed(patch)


def nobody_sweeps(patch: pytest.MonkeyPatch) -> None:
    """The look for what dead workers left open."""
    from relay.store.sqlite_ledger import SqliteLedger

    async def nothing(*_: Any) -> int:
        return 0

    patch.setattr(SqliteLedger, "sweep", nothing)


def rows_come_later(patch: pytest.MonkeyPatch) -> None:
    """That a row is written before anything is sent."""
    from relay.store.sqlite_ledger import SqliteLedger

    async def reserve(_: SqliteLedger, __: Any, amounts: Sequence[int]) -> int:
        return amounts[0]

    patch.setattr(SqliteLedger, "reserve", reserve)


def lines_are_written_at_once(patch: pytest.MonkeyPatch) -> None:
    """The thread that writes the log's lines, and that alone waits for whoever reads them."""
    from relay import logs

    patch.setattr(logs, "_sink_of", lambda _: None)


def files_are_as_few_as_they_were(patch: pytest.MonkeyPatch) -> None:
    """That the relay takes as many descriptors as it may have."""
    from relay import open_files

    patch.setattr(open_files, "raise_open_files", lambda: 0)


def its_place_stays_empty(patch: pytest.MonkeyPatch) -> None:
    """That a worker which died is replaced."""
    from relay.supervisor import Supervisor

    async def until_the_end(supervisor: Supervisor, _: float) -> None:
        await supervisor._stopping.wait()

    patch.setattr(Supervisor, "_pause", until_the_end)


def _nothing(*_: Any) -> None:
    pass


WEAKNESSES: dict[str, Without] = {
    one.__name__: one
    for one in (
        nobody_is_waited_for,
        one_stop_is_like_two,
        signals_are_the_systems,
        rows_are_not_needed,
        nobody_sweeps,
        rows_come_later,
        lines_are_written_at_once,
        files_are_as_few_as_they_were,
        its_place_stays_empty,
    )
}
