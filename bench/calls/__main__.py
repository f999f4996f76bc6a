"""The process that holds the calls of all arms at once: an order on one line, a report on one line.

Every arm holds the same calls at the same time, so that whatever else the machine does hits all of
them alike. An arm has one client, as a process of agents has; a call has a line of its own on it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from itertools import product
from typing import Any

import uvloop
from rtrelay import Client

from bench.calls.arms import ARMS, DIRECT, EchoStage
from bench.calls.http_line import HttpLine
from relay.calls import scripts
from relay.calls.agent import play
from relay.calls.line import Line
from relay.calls.record import TurnRecord
from relay.calls.script import Call, Turn
from relay.calls.session_line import SessionLine
from relay.calls.turn import Setting

Row = dict[str, Any]

_SPREAD_S = 1.0
"""Calls of an arm begin within it, so that they do not run in step."""


class _Hall:
    """The lines of all arms."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self._pace = float(order["pace"])
        self._order = order
        self._lines: dict[str, Line] = {
            DIRECT: HttpLine(order["emulator_url"], ca_file=order["ca_file"])
        }
        self._clients: dict[str, Client] = {}

    async def run(self) -> list[Row]:
        """All calls of all arms; a row a turn."""
        address = f"127.0.0.1:{self._order['relay_grpc_port']}"
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for arm in ARMS[1:]:
                if arm.startswith("sse"):
                    self._lines[arm] = HttpLine(self._order["relay_url"])
                else:
                    self._clients[arm] = await stack.enter_async_context(Client(address))
            tasks = [
                group.create_task(self._calls(arm, call, number, delay_s))
                for arm, call, number, delay_s in self._callers()
            ]
        return [row for task in tasks for row in task.result()]

    def _callers(self) -> list[tuple[str, Call, int, float]]:
        """Arm, script, number, and when the first call begins."""
        sets, arms = self._order["sets"], len(ARMS)
        every_s = _SPREAD_S / self._pace / (sets * len(scripts.CALLS) * arms)
        places = product(range(sets), scripts.CALLS, ARMS)
        return [
            (arm, call, number, place * every_s) for place, (number, call, arm) in enumerate(places)
        ]

    async def _calls(self, arm: str, call: Call, number: int, delay_s: float) -> list[Row]:
        """A caller who plays one script, again and again."""
        await asyncio.sleep(delay_s)
        rows: list[Row] = []
        for turn in range(self._order["rounds"]):
            name = f"{arm}-{call.name}-{number}-{turn}"
            rows += _rows(arm, call, await self._call(arm, call, name))
        return rows

    async def _call(self, arm: str, call: Call, name: str) -> list[TurnRecord]:
        stage = EchoStage(arm)
        if (line := self._lines.get(arm)) is not None:
            return await play(call, Setting(line, stage, self._pace), name=name)
        async with self._clients[arm].session() as session:
            return await play(call, Setting(SessionLine(session), stage, self._pace), name=name)


def _rows(arm: str, call: Call, records: list[TurnRecord]) -> list[Row]:
    rows: list[Row] = []
    for turn, record in zip(call.turns, records, strict=True):
        for generation in record.generations:
            if generation.end is not None:
                generation.end = dataclasses.replace(generation.end, detail=None)
        row = dataclasses.asdict(record)
        rows.append({"arm": arm, "call": call.name, "kind": _kind(turn), **row})
    return rows


def _kind(turn: Turn) -> str:
    if turn.is_brown_out:
        return "brown_out"
    if turn.tool is not None:
        return "tool"
    return "guessed" if turn.is_guessed else "usual"


def main() -> None:
    """Read the order, hold the calls, write the report."""
    order = json.loads(sys.stdin.readline())
    try:
        answer: dict[str, Any] = {"turns": uvloop.run(_Hall(order).run())}
    except Exception as error:  # noqa: BLE001 - told to the bench
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        answer = {"failure": f"{type(error).__name__}: {error}"}
    # Not by `print`: where Python's output is unbuffered (PYTHONUNBUFFERED), a write that the
    # pipe takes only a part of loses the rest.
    with open(sys.stdout.fileno(), "wb", closefd=False) as output:
        output.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    main()
