"""`relay measure`: the time to first token of doors, with the operator's own keys and money.

It says first what it may cost, and sends nothing without a word. What it finds is shown, and left
in the SQLite store for workers that start later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console

from relay.commands.check import Found
from relay.commands.doors_view import named_targets
from relay.commands.measure_view import ENDED, as_json, cost_table, print_results
from relay.commands.own_credentials import catalog_with_credentials
from relay.config import Config
from relay.errors import RelayError
from relay.measuring.choice import ChoiceError, Named, doors_of
from relay.measuring.priors import MIN_KEPT, require_usable, save, states_of
from relay.measuring.prompts import Shape
from relay.measuring.rounds import Bound, Dials, Ended, Rounds, worst_of
from relay.measuring.samples import Door, DoorResult
from relay.resilience.latency import KEEP_S, PRIOR_SAMPLES
from relay.routing.catalog import Catalog
from relay.routing.target import Target
from relay.server import transport_settings
from relay.store.learned import StoreError, sqlite_path
from relay.transport import make_transport

NO_FILE: Final = (
    "the file has no SQLite store (store.url), in which alone what was learnt of targets is kept"
    " for workers to take up; --no-priors measures for the table"
)


class MeasureError(Exception):
    """Nothing was measured, or it could not be kept; the message says why."""


class Wish(NamedTuple):
    """What the operator asks for."""

    named: Named
    bound: Bound
    shape: Shape
    is_confirmed: bool
    allows_unpriced: bool
    keeps_priors: bool
    as_json: bool


class Measured(NamedTuple):
    """What there is at the end."""

    results: list[DoorResult]
    ended: Ended
    states: Mapping[str, Mapping[str, Any]]
    """What workers may take up, by target."""


def prepare(console: Console, found: Found, wish: Wish) -> tuple[list[Door], Path | None]:
    """What would be asked, with its worst cost printed; and the file that priors go to, None for
    none. Nothing is sent.

    Raises:
        MeasureError: it is not done like this.
    """
    if found.is_emulated:
        raise MeasureError("there is nothing to measure: the emulator runs with `relay serve`")
    try:
        listed = list(named_targets(found.config, found.catalog))
        doors = doors_of(found.catalog, listed, wish.named)
    except (ChoiceError, RelayError) as error:
        raise MeasureError(str(error)) from error
    if not doors:
        raise MeasureError("no target is left of what was named")
    path = _file_of(found.config) if wish.keeps_priors else None
    _say_cost(console, doors, wish)
    return doors, path


def _file_of(config: Config) -> Path:
    """
    Raises:
        MeasureError: there is none, or none that can be written.
    """
    store = config.store
    path = None if store is None else sqlite_path(store.url.get_secret_value())
    if path is None:
        raise MeasureError(NO_FILE)
    try:
        require_usable(path)
    except StoreError as error:
        raise MeasureError(f"store.url: {error}") from error
    return path


def _say_cost(console: Console, doors: list[Door], wish: Wish) -> None:
    """
    Raises:
        MeasureError: it is not known, or not agreed to.
    """
    bound, shape = wish.bound, wish.shape
    console.print(cost_table(doors, bound.samples, shape))
    worst = sum(worst_of(door, bound.samples, shape) for door in doors)
    limit = f"${bound.max_micro / 1e6:g} (--max-usd)"
    known = f"At worst ${worst / 1e6:.4f}"
    if any(door.price is None for door in doors):
        known += ", without those whose price is unknown"
    if worst > bound.max_micro:
        known += f"; it stops before {limit} are spent, so there may be fewer samples"
    console.print(f"{known}. The provider bills it to your keys.", highlight=False)
    unpriced = [door.target.name for door in doors if door.price is None]
    if unpriced and not wish.allows_unpriced:
        raise MeasureError(
            f"no price is known of {', '.join(unpriced)}: give providers.X.prices, or --unpriced to"
            " ask them without a bound on their cost"
        )
    if unpriced:
        console.print("What the unpriced doors cost is counted nowhere.", highlight=False)
    if not wish.is_confirmed:
        raise MeasureError("nothing was sent; --yes measures")


async def measure(config: Config, doors: list[Door], wish: Wish, console: Console) -> Measured:
    """Ask. The first Ctrl-C stops it after the request that runs, and what there is stands.

    Args:
        doors: as `prepare` gave them.

    Cancelled: the request that runs is withdrawn, connections are closed.
    """
    transport = make_transport(config.transport.engine, transport_settings(config))
    dials = Dials(time.monotonic)
    transport.on_dial = dials
    try:
        async with catalog_with_credentials(config, transport) as catalog:
            with _stoppable() as stopped:
                rounds = Rounds(
                    [_kept(catalog, door) for door in doors],
                    catalog,
                    wish.shape,
                    wish.bound,
                    transport=transport,
                    dials=dials,
                    clock=time.monotonic,
                    rng=random.Random(),  # noqa: S311 - not a secret
                    is_stopped=stopped.is_set,
                    say=partial(_say, console),
                )
                ended = await rounds.run()
    finally:
        await transport.aclose()
    return Measured(rounds.results, ended, states_of(rounds.results, time.monotonic()))


def _kept(catalog: Catalog, door: Door) -> Door:
    """The same door, by the catalog whose credentials are kept."""
    target = door.target
    endpoint = catalog.endpoints[target.endpoint.provider]
    return Door(Target(endpoint, target.model, target.service_tier), door.price)


def _say(console: Console, text: str) -> None:
    """One line over the last one. Not rich's status, whose thread would turn beside requests."""
    if console.is_terminal:
        console.print(text, end="\r", highlight=False)


@contextlib.contextmanager
def _stoppable() -> Iterator[asyncio.Event]:
    """Set by the first Ctrl-C; the next one is Python's own again."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    # The loop would put a handler of its own back; see `relay.commands.chat`.
    before = signal.getsignal(signal.SIGINT)

    def stop() -> None:
        stopped.set()
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)

    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        yield stopped
    finally:
        if not stopped.is_set():
            stop()


def finish(
    console: Console, out: Console, measured: Measured, wish: Wish, path: Path | None
) -> int:
    """Show it and keep it.

    Args:
        console: for people.
        out: standard output.
        path: as `prepare` gave it.

    Returns:
        The exit status: 0 if every door has first tokens.

    Raises:
        MeasureError: it could not be kept; it was shown all the same.
    """
    results, states = measured.results, measured.states
    why = ""
    written = None
    if path is not None and states:
        try:
            save(path, states)
            written = str(path)
        except StoreError as error:
            why = f"what was measured is not kept: {error}"
    if wish.as_json:
        shown = as_json(results, measured.ended, states, written)
        out.print_json(json.dumps(shown))
    else:
        print_results(out, results, wish.shape)
        spent = sum(result.spent_micro for result in results)
        out.print(
            f"${spent / 1e6:.4f} spent, as far as prices are known: {ENDED[measured.ended]}.",
            highlight=False,
        )
    if path is not None and len(states) < len(results):
        console.print(
            f"Of doors with fewer than {MIN_KEPT} samples nothing is kept.", highlight=False
        )
    if written is not None:
        console.print(_kept_words(results, states, path), highlight=False, soft_wrap=True)
    if why:
        raise MeasureError(why)
    return 0 if all(result.warm for result in results) else 1


def _kept_words(
    results: Sequence[DoorResult], states: Mapping[str, object], path: Path | None
) -> str:
    few = min(len(r.warm) for r in results if r.door.target.name in states)
    text = (
        f"{path} has the priors of {len(states)} targets: workers take them up at their next start,"
        f" within {KEEP_S / 3600:g} hours."
    )
    if few < PRIOR_SAMPLES:
        text += (
            f" With fewer than {PRIOR_SAMPLES} samples of a target they only lean to it; its own"
            f" delay for hedges is taken from {PRIOR_SAMPLES} on (--samples {PRIOR_SAMPLES})."
        )
    return text
