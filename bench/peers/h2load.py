"""h2load, a load generator in C, at any arm that speaks HTTP/1.1 or HTTP/2.

It keeps no bodies: of an answer it tells start, status and end. So it is used for what that is
enough for: requests a second, the time of whole answers, CPU of whoever is in between. It is
Debian's `nghttp2-client`; without it all that needs it is left out.

Closed loop: `-c` clients, each with a new request as soon as its last was answered. Open loop:
`--rps` of each client, which are started one after the other (`-r 1 --rate-period`), so that
requests go out evenly. A client of HTTP/1.1 has one request under way at a time and holds the next
one back until then; there are twice as many clients as streams, so that this needs answers that
take twice their time. How many went out is counted and told.

Its timers are of a millisecond, and of ten between the requests of one client.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.peers import h2load_output
from bench.peers.h2load_output import Finished, OutputError, Summary
from bench.processes import BenchError, cpu_ns, die_with_parent, pin

PACKAGE = "nghttp2-client"
_GRPC_LINKS = 4
_H2_LINKS = 2
_MOST_A_LINK_PER_S = 50.0
"""Of its timer of 10 ms a client: twice as long."""
_LEAD_S = 0.3
"""Connections are made; a fresh process reads its libraries."""
_TAIL_S = 0.2
_END_S = 15.0


def missing() -> str:
    """Why h2load cannot be used; empty if it can."""
    return "" if shutil.which("h2load") else f"no h2load here; it is Debian's package `{PACKAGE}`"


def version() -> str:
    """Such as `1.52.0`; empty without it."""
    if missing():
        return ""
    done = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=False)
    return h2load_output.version(done.stdout)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an arm is asked, and how."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    is_http2: bool = False
    model: str = ""
    """As the arm names it, for who makes the body."""
    is_grpc: bool = False

    def links(self, streams: int, per_second: float) -> tuple[int, int]:
        """Connections, and streams on each at most; `per_second` 0 in a closed loop."""
        if not self.is_http2:
            return (2 * streams if per_second else streams), 1
        links = min(streams, _GRPC_LINKS if self.is_grpc else _H2_LINKS)
        if not per_second:
            return links, max(1, streams // links)
        links = max(links, math.ceil(per_second / _MOST_A_LINK_PER_S))
        return links, 4 * math.ceil(streams / links)


class Loop(NamedTuple):
    """How it asks: so many streams at once, or so many requests a second of as many streams."""

    streams: int
    per_second: float = 0.0
    """0: a closed loop."""


def command(target: Target, loop: Loop, seconds: float, body: Path, log: Path) -> list[str]:
    """The whole command; in an open loop it ends once all of that time's requests are answered."""
    links, most = target.links(loop.streams, loop.per_second)
    words = ["h2load", "-t", "1", "-c", str(links), "-m", str(most)]
    if not target.is_http2:
        words.append("--h1")
    if loop.per_second:
        each = loop.per_second / links
        # Whole requests of each client; never none.
        count = links * max(1, math.ceil(seconds * each))
        apart_us = max(1000, round(1e6 / loop.per_second))
        words += ["-n", str(count), "--rps", f"{each:.6f}"]
        words += ["-r", "1", "--rate-period", f"{max(1, round(apart_us / 1e3))}ms"]
    else:
        # Whole seconds are all that it reads without a unit.
        words += ["-D", f"{math.ceil(seconds * 1e3)}ms"]
    for name, value in {"content-type": "application/json", **target.headers}.items():
        words += ["-H", f"{name}: {value}"]
    return [*words, "-d", str(body), "--log-file", str(log), target.url]


@dataclass(frozen=True, slots=True)
class Leg:
    """One load."""

    summary: Summary
    answers: Sequence[Finished]
    """That ended in the window, in that order."""
    started: int
    """In the window, and were answered at all."""
    window_s: float
    cpu_ns: Mapping[str, int]
    """Used in the window, by who was watched; `load` is h2load."""

    @property
    def bad(self) -> int:
        """Answers of the whole leg that failed or had another status."""
        return self.summary.failed + self.summary.not_2xx

    @property
    def per_second(self) -> float:
        """Answers."""
        return len(self.answers) / self.window_s

    def core_percent(self, who: str) -> float:
        """CPU as a share of one core."""
        used_ns = self.cpu_ns.get(who)
        return math.nan if used_ns is None else used_ns / 1e7 / self.window_s

    def us_per_answer(self, who: str) -> float:
        """CPU for each that ended in the window."""
        used_ns = self.cpu_ns.get(who)
        if used_ns is None or not self.answers:
            return math.nan
        return used_ns / 1e3 / len(self.answers)


def run(
    target: Target,
    loop: Loop,
    body: bytes,
    directory: Path,
    *,
    ramp_s: float,
    window_s: float,
    watch: Mapping[str, Sequence[int]],
    cores: Collection[int] = (),
) -> Leg:
    """Load an arm; what is counted is in the window, after the ramp.

    Args:
        directory: body, log and output are written there, over those of the last leg.
        watch: whose CPU is read at both edges of the window.
        cores: where h2load stays; any, if empty.

    Raises:
        BenchError: it did not start, failed, or did not end.
    """
    if missing():
        raise BenchError(missing())
    body_file, log, output = (directory / f"h2load.{name}" for name in ("body", "log", "out"))
    body_file.write_bytes(body)
    log.unlink(missing_ok=True)
    seconds = _LEAD_S + ramp_s + window_s + _TAIL_S
    with output.open("wb") as out:
        process = subprocess.Popen(
            command(target, loop, seconds, body_file, log),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        if cores:
            with contextlib.suppress(OSError):  # it has ended, which is told below
                pin([process.pid], cores)
        watched = {**watch, "load": [process.pid]}
        time.sleep(_LEAD_S + ramp_s)
        begin = _Edge.read(process, watched)
        time.sleep(window_s)
        end = _Edge.read(process, watched)
        code = process.wait(_TAIL_S + ramp_s + _END_S)
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"h2load did not end: {_last(output)}") from error
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    if code:
        raise BenchError(f"h2load ended with {code}: {_last(output)}")
    try:
        with log.open() as lines:
            answers = h2load_output.finished(lines)
        return _leg(h2load_output.summary(output.read_text(errors="replace")), answers, begin, end)
    except (OutputError, OSError) as error:
        raise BenchError(f"h2load: {error}") from error


@dataclass(frozen=True, slots=True)
class _Edge:
    at_us: float
    cpu_ns: dict[str, int]

    @classmethod
    def read(cls, process: subprocess.Popen[bytes], watched: Mapping[str, Sequence[int]]) -> _Edge:
        if process.poll() is not None:
            return cls(time.time() * 1e6, {})
        try:
            return cls(time.time() * 1e6, {name: cpu_ns(pids) for name, pids in watched.items()})
        except OSError as error:
            raise BenchError(f"a process that is watched has ended: {error}") from error


def _leg(summary: Summary, answers: Sequence[Finished], begin: _Edge, end: _Edge) -> Leg:
    inside = [each for each in answers if begin.at_us <= each.end_us < end.at_us]
    return Leg(
        summary,
        [each for each in inside if 200 <= each.status < 300],
        sum(begin.at_us <= each.start_us < end.at_us for each in answers),
        (end.at_us - begin.at_us) / 1e6,
        {name: ns - begin.cpu_ns[name] for name, ns in end.cpu_ns.items() if name in begin.cpu_ns},
    )


def _last(output: Path) -> str:
    with contextlib.suppress(OSError):
        return output.read_text(errors="replace").strip()[-300:]
    return os.strerror(2)
