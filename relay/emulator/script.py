"""How a model behaves, and the text that says so.

A model name is a preset, parameters, or both:

    emu-fast                                    a preset of `PRESETS`
    emu:ttft=200,itl=15,tokens=40,tools=2       parameters over the defaults
    emu-slow:fault=reset@5,seed=7               parameters over a preset
    gpt-4o                                      any other name behaves like `emu`

Parameters (all optional), separated by commas:

    ttft=D      time to the first token (D: a distribution, see `distributions`), ms
    itl=D       time between tokens, ms
    head=D      time to the response headers, ms; else they come with the first token
    tokens=N    answer tokens; else the whole canned answer
    text=...    the answer itself, `+` for blanks; `text=echo` repeats the user,
                `text=results` what tools said at the end; `text=solve`, `text=judge` and
                `text=rate` see to the task in the prompt, see `tasks`
    wrong=0.2   share of tasks that are answered wrong; wrong_hard=0.5 of the hard ones
    nll=D       minus the log probability of each token, for requests that want to know (OpenAI
                chat); wrong_nll=D of wrong answers, where that differs
    reason=N    reasoning tokens before the answer
    tools=N     tool calls; else one if the request forces a tool
    finish=F    stop | length | tool_calls | content_filter
    refusal=1   the answer is a refusal
    stamp=1     each token starts with `t=<monotonic ns> `, taken right before its write
    seed=N      of all draws; request k of a model draws the same values in every run
    fault=F     a fault of `faults.FAULTS`: name, name@N (at token N), name:V, name@N:V
    p=0.1       the fault's probability per request
    dialect=D   quirks of an OpenAI-compatible host, see `wires.dialects`
    keepalive=N a comment line every N ms until the first token (ping at Anthropic)
    replay=P    play the recording P instead (see `replay`), split=whole|event|byte|N, cut=N
    in=N out=N cached=N   usage to report; else counted

Values with a comma in them (and anything else) go through `POST /emulator/script`, whose
`behaviour` is the same text or an object of the same keys.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from relay.emulator.distributions import Distribution, Fixed, parse_distribution
from relay.emulator.faults import FAULTS, FaultCall

FINISHES = ("stop", "length", "tool_calls", "content_filter")


class ScriptError(ValueError):
    """A behaviour text that cannot be read; the message names the parameter."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What one request will meet."""

    ttft: Distribution = field(default_factory=lambda: Fixed(50.0))
    itl: Distribution = field(default_factory=lambda: Fixed(10.0))
    head: Distribution | None = None
    tokens: int | None = None
    text: str | None = None
    reason: int = 0
    tools: int | None = None
    finish: str | None = None
    refusal: bool = False
    stamp: bool = False
    seed: int = 0
    fault: FaultCall | None = None
    p: float = 1.0
    dialect: str = ""
    keepalive: float = 0.0
    replay: str = ""
    split: str = "event"
    cut: int | None = None
    usage_in: int | None = None
    usage_out: int | None = None
    usage_cached: int = 0
    wrong: float = 0.0
    wrong_hard: float | None = None
    nll: Distribution | None = None
    wrong_nll: Distribution | None = None


PRESETS: dict[str, str] = {
    "emu": "",
    "emu-fast": "ttft=q:0=60;50=120;90=180;99=300;100=400,itl=8..14",
    "emu-steady": "ttft=150,itl=12",
    "emu-slow": "ttft=q:0=400;50=900;90=1800;99=4000;100=6000,itl=20..45",
    # A good median with a heavy tail: what hedging is for.
    "emu-tail": "ttft=q:0=90;50=180;90=400;95=1200;99=4000;100=8000,itl=8..20",
    "emu-flaky": "ttft=120,itl=12,fault=reset-head,p=0.2",
    "emu-down": "fault=status:503",
    "emu-mute": "fault=hang",
    "emu-reasoning": "ttft=200,itl=12,reason=40",
    "emu-tools": "ttft=120,itl=10,tools=1",
    "emu-bench": "ttft=20,itl=10,tokens=50,stamp=1",
    "emu-instant": "ttft=0,itl=0",
}

_RENAMED = {"in": "usage_in", "out": "usage_out", "cached": "usage_cached"}
_DISTRIBUTIONS = ("ttft", "itl", "head", "nll", "wrong_nll")
_INTEGERS = ("tokens", "reason", "tools", "seed", "cut", "usage_in", "usage_out", "usage_cached")
_FLAGS = ("refusal", "stamp")
_NUMBERS = ("p", "keepalive", "wrong", "wrong_hard")
_NAMES = frozenset(each.name for each in fields(Behaviour))

_OUTSIDE = re.compile(r"\.\.|(^|:)/|\\\\")
"""A path that leaves its folder, in `replay=` or `csv:`."""


class Script:
    """All behaviours: presets, what the configuration or the control endpoint set for names and for
    some prompts, queues."""

    def __init__(self, *, any_file: bool = True) -> None:
        """Args: any_file: whether texts may name files anywhere, not only in the data folders."""
        self._any_file = any_file
        self.distributions: dict[str, Distribution] = {}
        self._models: dict[str, Behaviour] = {}
        self._queues: dict[str, list[tuple[Behaviour, int]]] = {}
        self._prompts: dict[str, list[tuple[str, Behaviour]]] = {}
        self._parsed: dict[str, Behaviour] = {}
        self._requests: dict[str, int] = {}

    def set_model(self, model: str, behaviour: Behaviour) -> None:
        """From now on `model` behaves so."""
        self._models[model] = behaviour

    def push_next(self, model: str, behaviour: Behaviour, count: int) -> None:
        """The next `count` requests for `model` (`*`: for any) behave so, then as before."""
        self._queues.setdefault(model, []).append((behaviour, count))

    def set_prompt(self, model: str, part: str, behaviour: Behaviour) -> None:
        """Requests for `model` whose last message of the user contains `part` behave so."""
        others = [pair for pair in self._prompts.get(model, ()) if pair[0] != part]
        self._prompts[model] = [*others, (part, behaviour)]

    def reset(self) -> None:
        """Forget models, queues, prompts and request counters; named distributions stay."""
        self._models.clear()
        self._queues.clear()
        self._prompts.clear()
        self._requests.clear()

    def models(self) -> list[str]:
        """Names that a model list shows."""
        return [*PRESETS, *(name for name in self._models if name not in PRESETS)]

    def behaviour_for(self, model: str, prompt: str = "") -> Behaviour:
        """The behaviour of the next request for `model`; takes one from a queue if there is any.

        Raises:
            ScriptError: the model's parameters cannot be read.
        """
        for key in (model, "*"):
            queue = self._queues.get(key)
            if queue:
                behaviour, count = queue[0]
                queue[0] = (behaviour, count - 1)
                if count <= 1:
                    queue.pop(0)
                return behaviour
        for part, behaviour in self._prompts.get(model, ()):
            if part in prompt:
                return behaviour
        if model in self._models:
            return self._models[model]
        if model not in self._parsed:
            if len(self._parsed) > 10_000:  # names are the client's: bound what they cost
                self._parsed.clear()
            self._parsed[model] = self._from_name(model)
        return self._parsed[model]

    def next_draw(self, model: str, behaviour: Behaviour) -> tuple[random.Random, int]:
        """The generator of the next request for `model`, and the number of that request."""
        if len(self._requests) > 10_000:  # names are the client's here too
            self._requests.clear()
        index = self._requests.get(model, 0)
        self._requests[model] = index + 1
        return random.Random(f"{behaviour.seed}/{model}/{index}"), index  # noqa: S311 - not a secret

    def parse(self, source: str | Mapping[str, object], base: Behaviour | None = None) -> Behaviour:
        """Read a behaviour from `key=value,...`, a preset with or without parameters, or an object.

        Raises:
            ScriptError: unknown key or value.
        """
        if isinstance(source, str):
            name, colon, parameters = source.partition(":")
            if name in PRESETS or (colon and name in self._models):
                return self._over(self._base(name), parameters if colon else "")
            return self._over(base or Behaviour(), source)
        given = dict(source)
        start = base or self._base(str(given.pop("preset", "emu")))
        return self._with(start, {key: _as_text(value) for key, value in given.items()})

    def _from_name(self, model: str) -> Behaviour:
        name, colon, parameters = model.partition(":")
        if colon and "=" in parameters:
            return self._over(self._base(name), parameters)
        return self._base(name)

    def _base(self, name: str) -> Behaviour:
        if name in self._models:
            return self._models[name]
        return self._over(Behaviour(), PRESETS.get(name, ""))

    def _over(self, base: Behaviour, text: str) -> Behaviour:
        pairs: dict[str, str] = {}
        for part in filter(None, text.split(",")):
            key, equals, value = part.partition("=")
            if not equals:
                raise ScriptError(f"{part!r} is not key=value")
            pairs[key.strip()] = value.replace("+", " ") if key == "text" else value.strip()
        return self._with(base, pairs)

    def _with(self, base: Behaviour, pairs: Mapping[str, str]) -> Behaviour:
        values = {
            _RENAMED.get(key, key): self._value(_RENAMED.get(key, key), value)
            for key, value in pairs.items()
        }
        return replace(base, **values)  # type: ignore[arg-type]

    def _value(self, key: str, text: str) -> object:
        if key not in _NAMES:
            raise ScriptError(f"unknown parameter {key!r}")
        names_file = key == "replay" or text.startswith("csv")
        if names_file and not self._any_file and _OUTSIDE.search(text):
            raise ScriptError(f"{key}: only files of the data folders, unless on loopback")
        try:
            if key in _DISTRIBUTIONS:
                return parse_distribution(text, self.distributions)
            if key in _INTEGERS:
                return int(text)
            if key in _FLAGS:
                return text not in ("0", "false", "")
            if key in _NUMBERS:
                return float(text)
            if key == "fault":
                return FaultCall.parse(text, FAULTS) if text else None
        except ValueError as error:
            raise ScriptError(f"{key}={text}: {error}") from None
        if key == "split" and text not in ("event", "whole", "byte") and not text.isdigit():
            raise ScriptError(f"split={text}: event, whole, byte or a number was expected")
        if key == "finish" and text not in FINISHES:
            raise ScriptError(f"finish={text}: one of {', '.join(FINISHES)} was expected")
        return text


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return str(value)
