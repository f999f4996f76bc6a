"""What was asked, and what will be said: the neutral middle between script and wire formats."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import orjson

from relay.emulator import prose, tasks
from relay.emulator.distributions import Distribution

Json = dict[str, object]


@dataclass(slots=True)
class Tool:
    """A function that the client offers."""

    name: str
    schema: Mapping[str, object]


@dataclass(slots=True)
class Asked:
    """A request, as far as it changes an answer; each wire reads its own format into this."""

    model: str
    stream: bool = False
    prompt: str = ""
    results: Sequence[str] = ()
    """What tools said, where the conversation ends with that."""
    tools: Sequence[Tool] = ()
    forced_tool: str | None = None
    """Name of the tool the client insists on; empty for "any"; None for none."""
    max_tokens: int | None = None
    n: int = 1
    include_usage: bool = False
    prompt_tokens: int = 0
    logprobs: bool = False
    """Log probabilities are wanted, on wires that read this."""


@dataclass(slots=True)
class ToolCall:
    """One tool call of an answer."""

    id: str
    """Without a provider's prefix; letters and digits."""
    name: str
    arguments: str
    """JSON text."""

    def fragments(self, size: int = 6) -> list[str]:
        """The arguments in pieces that keep no JSON token whole on purpose."""
        return [self.arguments[at : at + size] for at in range(0, len(self.arguments), size)]


@dataclass(slots=True)
class Usage:
    """Token counts; `completion` includes `reasoning`, `prompt` includes `cached`."""

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class Answer:
    """Everything a wire format needs to say it."""

    id: str
    model: str
    created: int
    tokens: list[str]
    finish: str
    usage: Usage
    reasoning: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)
    refusal: bool = False
    n: int = 1
    stamp: bool = False
    include_usage: bool = False
    logprobs: list[float] = field(default_factory=list)
    """Of each token, where they are wanted and known."""
    quirks: frozenset[str] = frozenset()
    """Faults that live inside the format; see `faults`."""

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    @property
    def thought(self) -> str:
        return "".join(self.reasoning)


@dataclass(slots=True)
class Wanted:
    """The script's part of an answer (`script.Behaviour` without its times and faults)."""

    tokens: int | None = None
    text: str | None = None
    reason: int = 0
    tools: int | None = None
    finish: str | None = None
    refusal: bool = False
    stamp: bool = False
    usage_in: int | None = None
    usage_out: int | None = None
    usage_cached: int = 0
    wrong: float = 0.0
    wrong_hard: float | None = None
    nll: Distribution | None = None
    wrong_nll: Distribution | None = None


_DEFAULT_TOOL = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
)
_WORDS = ("Paris", "Zürich", "tomorrow", "seven o'clock", "the small table", "北京")


def make_answer(asked: Asked, wanted: Wanted, rng: random.Random, number: int) -> Answer:
    """Decide the content of an answer.

    Args:
        number: of the request; the answer's id is made of it, so ids are unique and repeatable.
    """
    calls = _calls(asked, wanted, rng, number)
    is_wrong = False
    says = tasks.SAYS.get(wanted.text or "")
    if says is not None:
        task, share = tasks.find(asked.prompt), wanted.wrong
        if task is not None and task.is_hard and wanted.wrong_hard is not None:
            share = wanted.wrong_hard
        said, is_wrong = says(asked.prompt, rng, share)
        tokens = prose.to_tokens(said)
    else:
        tokens = [] if calls and wanted.tokens is None else _tokens(asked, wanted, rng)
    finish = wanted.finish or ("tool_calls" if calls else "stop")
    if asked.max_tokens is not None and len(tokens) > asked.max_tokens:
        tokens, finish = tokens[: asked.max_tokens], "length"
    nll = wanted.wrong_nll or wanted.nll if is_wrong else wanted.nll
    logprobs: list[float] = []
    if asked.logprobs and nll is not None:
        logprobs = [-nll.draw_ms(rng, k) for k in range(len(tokens))]
    reasoning = prose.reasoning_tokens(wanted.reason)
    counted = len(tokens) + len(reasoning) + sum(len(call.fragments()) + 2 for call in calls)
    return Answer(
        id=f"emu{number:010d}",
        model=asked.model,
        created=int(time.time()),
        tokens=tokens,
        finish=finish,
        usage=Usage(
            prompt=asked.prompt_tokens if wanted.usage_in is None else wanted.usage_in,
            completion=counted if wanted.usage_out is None else wanted.usage_out,
            cached=wanted.usage_cached,
            reasoning=len(reasoning),
        ),
        reasoning=reasoning,
        calls=calls,
        refusal=wanted.refusal,
        n=asked.n,
        stamp=wanted.stamp,
        include_usage=asked.include_usage,
        logprobs=logprobs,
    )


def _tokens(asked: Asked, wanted: Wanted, rng: random.Random) -> list[str]:
    if wanted.refusal:
        return prose.to_tokens(prose.REFUSAL)
    if wanted.text == "echo":
        return prose.to_tokens(asked.prompt)
    if wanted.text == "results":
        return prose.to_tokens("; ".join(asked.results))
    if wanted.text is not None:
        return prose.to_tokens(wanted.text)
    return prose.answer_tokens(rng, asked.prompt, wanted.tokens)


def _calls(asked: Asked, wanted: Wanted, rng: random.Random, number: int) -> list[ToolCall]:
    count = wanted.tools
    if count is None:
        count = 0 if asked.forced_tool is None else 1
    offered = list(asked.tools) or [_DEFAULT_TOOL]
    if asked.forced_tool:
        offered = [tool for tool in offered if tool.name == asked.forced_tool] or offered
    return [
        ToolCall(
            id=f"{number:06d}{k:03d}",
            name=offered[k % len(offered)].name,
            arguments=orjson.dumps(_sample(offered[k % len(offered)].schema, rng)).decode(),
        )
        for k in range(count)
    ]


def _sample(schema: Mapping[str, object], rng: random.Random) -> object:
    """A value that a simple JSON Schema accepts."""
    if isinstance(choices := schema.get("enum"), list) and choices:
        return rng.choice(choices)
    match schema.get("type"):
        case "string":
            return rng.choice(_WORDS)
        case "integer":
            return rng.randrange(1, 8)
        case "number":
            return round(rng.random() * 40, 1)
        case "boolean":
            return rng.random() < 0.5
        case "array":
            items = schema.get("items")
            return [_sample(items, rng)] if isinstance(items, dict) else []
        case _:
            properties = schema.get("properties")
            if not isinstance(properties, dict):
                return {}
            return {
                name: _sample(each, rng)
                for name, each in properties.items()
                if isinstance(each, dict)
            }
