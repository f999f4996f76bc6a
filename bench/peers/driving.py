"""An arm of a rig driven by h2load, and its answers checked as far as h2load can tell.

It keeps no bodies. So an arm's answer is looked at whole before, by the generator in Python or by
one request, and how many bytes such an answer has in h2load's own count is found out by a few
single ones. A load whose answers have fewer bytes, or end sooner than the provider takes, is none.
"""

from __future__ import annotations

import json
import ssl
import urllib.request
from typing import NamedTuple

import orjson
from rtrelay.v1 import relay_pb2

from bench.peers import h2load
from bench.peers.cases.asking import ask
from bench.peers.doors import Question
from bench.peers.h2load import Leg, Loop, Target
from bench.peers.rig import Arm, PeerRig
from bench.processes import BenchError

_LEAST_BYTES = 0.95
"""Of a whole answer's: names and numbers in it differ a little."""
_LEAST_TIME = 0.98
_SINGLES = Loop(1, 4.0)
_TIMEOUT_S = 10.0


class Work(NamedTuple):
    """What the provider does for each request."""

    tokens: int
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    is_stream: bool = True

    @property
    def behaviour(self) -> str:
        """For the emulator."""
        stamp = ",stamp=1" if self.is_stream else ""
        return f"ttft={self.ttft_ms:g},itl={self.itl_ms:g},tokens={self.tokens}{stamp}"

    @property
    def length_s(self) -> float:
        """Of an answer."""
        return (self.ttft_ms + (self.tokens - 1) * self.itl_ms) / 1e3


def body(target: Target, work: Work) -> bytes:
    """The usual question as a target takes it."""
    question = Question()
    if target.is_grpc:
        request = relay_pb2.GenerateRequest(start=question.start("g", target.model))
        message = request.SerializeToString()
        return b"\0" + len(message).to_bytes(4, "big") + message
    if work.is_stream:
        return question.body(target.model)
    messages = [{"role": "user", "content": question.prompt}]
    return orjson.dumps({"model": target.model, "messages": messages})


class Driver:
    """h2load at the arms of a rig; remembers how many bytes an answer has."""

    def __init__(self, rig: PeerRig) -> None:
        self._rig = rig
        self._bytes: dict[tuple[str, Work], float] = {}

    def drive(self, arm: Arm, work: Work, loop: Loop, *, ramp_s: float, window_s: float) -> Leg:
        """Load an arm; the emulator must have been told of the work.

        Raises:
            BenchError: h2load failed, or the answers were not whole.
        """
        key = arm.name, work
        if key not in self._bytes:
            self._bytes[key] = self._look(arm, work)
        leg = self._run(arm, work, loop, ramp_s, window_s)
        check(leg, work, self._bytes[key])
        return leg

    def _look(self, arm: Arm, work: Work) -> float:
        """Bytes of one answer, after one was checked."""
        if work.is_stream:
            (answer,) = ask(self._rig, arm.name)
            if answer.ending != "complete" or answer.tokens != work.tokens:
                raise BenchError(
                    f"{answer.tokens} of {work.tokens} tokens, {answer.ending} {answer.detail}"
                )
        else:
            self._ask_whole(_target(arm), work)
        done = self._run(arm, work, _SINGLES, 0.0, 0.2)
        if done.bad or not done.summary.done:
            raise BenchError(f"{done.bad} bad answers to single requests of h2load")
        return done.summary.data_bytes / done.summary.done

    def _ask_whole(self, target: Target, work: Work) -> None:
        headers = {"content-type": "application/json", **target.headers}
        request = urllib.request.Request(target.url, body(target, work), headers)
        # The machine's proxies are not asked.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if target.url.startswith("https:"):
            context = ssl.create_default_context(cafile=self._rig.emulator.ca_file)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            opener = urllib.request.build_opener(*handlers)
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                text = json.load(answer)["choices"][0]["message"]["content"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise BenchError(f"no whole answer: {type(error).__name__}: {error}") from error
        if not text:
            raise BenchError("a whole answer without text")

    def _run(self, arm: Arm, work: Work, loop: Loop, ramp_s: float, window_s: float) -> Leg:
        rig, target = self._rig, _target(arm)
        watch = {name: pids for name, pids in rig.watch(arm).items() if name != "load"}
        return h2load.run(
            target,
            loop,
            body(target, work),
            rig.directory,
            ramp_s=ramp_s,
            window_s=window_s,
            watch=watch,
            cores=rig.cores.load,
        )


def check(leg: Leg, work: Work, bytes_each: float) -> None:
    """Whether the answers of a load were whole, as far as can be told.

    Raises:
        BenchError: they were not, or there were none.
    """
    if not leg.answers:
        raise BenchError("no answer in the window")
    if leg.summary.data_bytes < _LEAST_BYTES * bytes_each * (leg.summary.done - leg.bad):
        each = leg.summary.data_bytes / leg.summary.done
        raise BenchError(f"{each:.0f} bytes an answer, a whole one has {bytes_each:.0f}")
    shortest_s = min(each.took_us for each in leg.answers) / 1e6
    if shortest_s < _LEAST_TIME * work.length_s:
        raise BenchError(
            f"an answer after {shortest_s * 1e3:.0f} ms, the provider takes"
            f" {work.length_s * 1e3:.0f} ms"
        )


def _target(arm: Arm) -> Target:
    if arm.target is None:
        raise BenchError(f"h2load cannot ask {arm.name}")
    return arm.target
