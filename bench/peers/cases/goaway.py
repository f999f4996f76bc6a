"""The first question after a GOAWAY on the idle connection, over the same question when warm.

Providers send one when they deploy, or to spread load. Only who speaks HTTP/2 to the provider gets
one; each has a process of its own here, with a provider that sends GOAWAY when told to, closes the
connection 50 ms later, and answers at once. The question comes half a second after that.
"""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.peers.all import PEERS
from bench.peers.cases.asking import ask
from bench.peers.goaway_provider import TOKENS, GoawayProvider
from bench.peers.peer import MODEL, PeerError, Place
from bench.peers.rig import PeerRig
from bench.processes import BenchError, RelayProcess
from bench.result import CaseResult
from bench.stats import median, spread

_WARM = 5
_WAIT_S = 0.5


def run(rig: PeerRig) -> CaseResult:
    """Every arm that has HTTP/2 upstream."""
    repeats = 4 if rig.options.is_quick else 12
    result = CaseResult(axes={"repeats": repeats, "wait_s": _WAIT_S})
    processes: list[Any] = []
    with TemporaryDirectory(prefix="rtrelay-goaway-") as folder:
        directory = Path(folder)
        try:
            provider = GoawayProvider(directory / "provider")
            processes.append(provider)
            arms = _open(rig, provider, directory, processes, result.notes)
            _measure(rig, provider, arms, repeats, result)
        finally:
            while processes:
                processes.pop().stop()
    return result


def _open(
    rig: PeerRig,
    provider: GoawayProvider,
    directory: Path,
    processes: list[Any],
    notes: list[str],
) -> list[str]:
    """Start who is asked, each with a door; their names."""
    relay = RelayProcess(provider, directory, "goaway-relay")
    processes.append(relay)
    url = f"http://127.0.0.1:{relay.http_port}/v1"
    _door(rig, "sse", {"base_url": url, "model": f"lab/{MODEL}"})
    arms = ["sse"]
    for name in rig.options.peers:
        if name not in rig.arms or "HTTP/2" not in PEERS[name].upstream:
            continue
        (directory / name).mkdir()
        try:
            process, client = PEERS[name].start(Place(provider, directory / name))
            processes.append(process)
            spec = {"base_url": client.base_url, "model": client.model}
            _door(rig, name, {**spec, "headers": dict(client.headers)})
        except (PeerError, BenchError) as error:
            notes.append(f"{name} is not there: {error}")
            continue
        arms.append(name)
    return arms


def _door(rig: PeerRig, name: str, spec: dict[str, Any]) -> None:
    order = {"op": "door", "path": f"{name}@goaway", "kind": "http", "spec": spec}
    rig.load.ask({**order, "tokens": TOKENS}, 90.0)


def _measure(
    rig: PeerRig, provider: GoawayProvider, arms: list[str], repeats: int, result: CaseResult
) -> None:
    more: dict[str, list[float]] = {name: [] for name in arms}
    failed = dict.fromkeys(arms, 0)
    for number in range(repeats):
        rig.say(f"GOAWAY, {number + 1} of {repeats}")
        for name in arms[number % len(arms) :] + arms[: number % len(arms)]:
            # The others' connections go with it: each is warmed by its own questions.
            ask(rig, f"{name}@goaway", _WARM)
            provider.go_away()
            time.sleep(_WAIT_S)
            first, *warm = ask(rig, f"{name}@goaway", 1 + _WARM)
            if first.ending != "complete":
                failed[name] += 1
                result.notes.append(f"{name}: {first.ending} {first.detail}"[:300])
            else:
                more[name].append(first.first_ms - median([each.first_ms for each in warm]))
    for name, values in more.items():
        low, high = spread(values)
        result.rows[f"{name}/goaway"] = {
            "over_warm_ms": median(values),
            "over_warm_ms_low": low,
            "over_warm_ms_high": high,
            "failed": failed[name],
        }
