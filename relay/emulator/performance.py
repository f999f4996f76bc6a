"""How an answer is played: when the head, each token and the end are sent.

Times are absolute from the arrival of the request, so lateness never adds up. An event is one
write; a stamp is taken in the expression that writes it, so neither a burst of other streams nor
the time needed to render them is inside the interval that a bench measures.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from time import monotonic_ns

from relay.emulator.faults import At, FaultCall
from relay.emulator.scene import Play, Scene
from relay.emulator.wires.base import OPEN, TOKEN, Event


def play_stream(scene: Scene, events: Iterable[Event], fault: FaultCall | None = None) -> Play:
    """Stream `events`; a fault that strikes at a token is played before that token."""
    exchange = scene.exchange
    record = exchange.record
    strike = fault if fault is not None and isinstance(fault.fault, At) else None
    yield from _before_first(scene)
    due_s = scene.first_token_s
    yield due_s
    write = exchange.write
    seal = scene.seal
    next_gap_s = scene.next_gap_s
    opened = False
    opening: list[Event] = []
    for event in events:
        kind, before, after = event
        if kind == TOKEN:
            if record.tokens:
                due_s += next_gap_s()
                yield due_s
            if strike is not None and record.tokens == strike.at:
                yield from _strike(scene, strike, opening)
                if exchange.is_over:
                    return
                due_s = max(due_s, time.monotonic())
                next_gap_s = scene.next_gap_s  # the fault may have changed it
                strike = None
        elif kind == OPEN and not opened:
            opening.append(event)
            continue
        if not opened:
            opened = True
            _open(scene, opening)
        if kind == TOKEN:
            record.token()
        if seal is not None:
            write(seal(before if after is None else b"%b%016d%b" % (before, monotonic_ns(), after)))
        elif after is None:
            write(before)
        else:
            write(b"%b%016d%b" % (before, monotonic_ns(), after))
    if not opened:
        _open(scene, opening)
    if strike is not None:
        # Fewer tokens than the fault's position: it strikes at the end instead of not at all.
        yield from _strike(scene, strike, [])
    exchange.end()


def play_whole(scene: Scene, fault: FaultCall | None = None) -> Play:
    """Answer with one body when the whole answer would be ready."""
    if fault is not None and isinstance(fault.fault, At):
        yield scene.first_token_s
        yield from fault.fault.play(scene, fault)
        if scene.exchange.is_over:
            return
    ready_s = scene.first_token_s
    for _ in range(len(scene.answer.tokens) + len(scene.answer.reasoning) - 1):
        ready_s += scene.next_gap_s()
    yield ready_s
    headers = scene.wire.json_head(scene.answer)
    scene.exchange.respond(200, headers, scene.wire.body(scene.answer))


def _before_first(scene: Scene) -> Iterator[float | None]:
    if scene.head_s is not None:
        yield scene.head_s
        scene.send_head()
    if not scene.keepalive_s:
        return
    due_s = (scene.head_s or scene.exchange.started_s) + scene.keepalive_s
    while due_s < scene.first_token_s:
        yield due_s
        scene.send_head()
        scene.exchange.write(scene.wire.keepalive())
        due_s += scene.keepalive_s


def _open(scene: Scene, opening: list[Event]) -> None:
    """Send the head and the events held until the first token; they are gone then."""
    scene.send_head()
    for event in opening:
        scene.write_event(event)
    opening.clear()


def _strike(scene: Scene, call: FaultCall, opening: list[Event]) -> Iterator[float | None]:
    fault = call.fault
    assert isinstance(fault, At)  # noqa: S101 - the caller picked it by this
    if fault.after_opening and opening:
        _open(scene, opening)
    yield from fault.play(scene, call)
