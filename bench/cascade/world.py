"""Who answers, how often wrong, how fast and for how much: stated, so that a table can be checked.

Tasks are those of `relay.emulator.tasks`. Latencies are drawn from published times to first token
(`bench.replay.data`); tokens then come at an even rate. Each request of each model draws the same
values in every arm. Log probabilities tell right answers from wrong ones as well as `Model.auroc`
says, which is what published studies of models' own confidence find (0.7 to 0.85); what a real
model's are worth has to be measured on it.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from bench.replay import data
from relay.content import GenerateRequest, Message, Policy, ResponseFormat, Role, Sampling, TextPart
from relay.emulator import prose, tasks

PROMPT_TOKENS: Final = 1200
"""Of an agent's instructions and its conversation; with every leg that goes on with it."""
SIDE_TOKENS: Final = 150
"""Of a classifier's question."""
REFUSAL: Final = "I'm sorry, but I can't help with that."
_NLL_SIGMA: Final = 0.7
_PROSE: Final = prose.to_tokens(" " + " ".join(prose.ANSWERS[:2]))[:40]
"""What an answer goes on with."""


@dataclass(frozen=True, slots=True)
class Model:
    """One tier."""

    name: str
    source: str
    published: str
    input: float
    """US dollars per million tokens, which is micro-dollars per token."""
    output: float
    gap_s: float
    wrong: float
    wrong_hard: float
    refuses: float = 0.0
    breaks_json: float = 0.0
    nll: float = 0.12
    """Minus the mean log probability of a right answer's tokens: the median of a log-normal one."""
    auroc: float = 0.8
    """How probable it is that a wrong answer has less confidence than a right one."""

    def cost(self, prompt: int, output: int) -> float:
        """Micro-dollars."""
        return prompt * self.input + output * self.output


SMALL: Final = Model(
    "small",
    "modelstats.ai",
    "gemini-2.5-flash-lite",
    0.10,
    0.40,
    0.006,
    wrong=0.06,
    wrong_hard=0.30,
    refuses=0.03,
    breaks_json=0.06,
)
LARGE: Final = Model(
    "large", "modelstats.ai", "gpt-4.1", 2.0, 8.0, 0.012, wrong=0.01, wrong_hard=0.04
)
JUDGE: Final = Model(
    "judge", "modelstats.ai", "gemini-2.5-flash-lite", 0.10, 0.40, 0.006, wrong=0.1, wrong_hard=0.1
)
MODELS: Final = {model.name: model for model in (SMALL, LARGE, JUDGE)}


@dataclass(frozen=True, slots=True)
class Said:
    """What a model would answer, whether or not anybody asks it."""

    tokens: Sequence[str]
    is_right: bool
    ttft_s: float
    logprobs: Sequence[float]

    @property
    def text(self) -> str:
        return "".join(self.tokens)


@dataclass(frozen=True, slots=True)
class Question:
    """One request."""

    number: int
    request: GenerateRequest
    task: tasks.Task


def questions(count: int, seed: int, *, is_json: bool = False) -> list[Question]:
    """Tasks of all kinds in turn."""
    found = []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        prompt, task = tasks.make(rng, tasks.KINDS[number % len(tasks.KINDS)])
        request = GenerateRequest(
            model="cascade",
            messages=(Message(Role.USER, (TextPart(prompt),)),),
            sampling=Sampling(max_output_tokens=200),
            response_format=ResponseFormat("json_object") if is_json else None,
            policy=Policy(tenant="bench"),
        )
        found.append(Question(number, request, task))
    return found


def answer_of(model: Model, question: Question, seed: int) -> Said:
    """What a tier says to a question."""
    rng = _rng(seed, question, model.name)
    ttft_s = _ttft_s(model, rng)
    share = model.wrong_hard if question.task.is_hard else model.wrong
    text, is_wrong = tasks.answer(_prompt(question), rng, share)
    draws = rng.random(), rng.random()
    is_json = question.request.response_format is not None
    if draws[0] < model.refuses:
        text, is_wrong = REFUSAL, True
        tokens = prose.to_tokens(text)
    elif is_json:
        text = json.dumps({"answer": text})
        if draws[1] < model.breaks_json:
            text, is_wrong = f"Here it is: {text}", True
        tokens = prose.to_tokens(text)
    else:
        tokens = [*prose.to_tokens(text), *_PROSE]
    # Two log-normal ones of the same width, as far apart as gives that share of right orders.
    apart = NormalDist().inv_cdf(model.auroc) * math.sqrt(2.0) * _NLL_SIGMA
    nll = model.nll * math.exp(rng.gauss(apart if is_wrong else 0.0, _NLL_SIGMA))
    logprobs = [-rng.expovariate(1.0 / nll) for _ in range(len(tokens))]
    return Said(tokens, not is_wrong, ttft_s, logprobs)


def reply_of(model: Model, question: Question, label: str, prompt: str, seed: int) -> Said:
    """What a model says to a side question."""
    rng = _rng(seed, question, label)
    ttft_s = _ttft_s(model, rng)
    says = tasks.rate if label == "classifier" else tasks.judge
    text, is_wrong = says(prompt, rng, model.wrong)
    return Said([text], not is_wrong, ttft_s, [-0.1])


def _rng(seed: int, question: Question, label: str) -> random.Random:
    return random.Random(f"{seed}/{question.number}/{label}")


def _ttft_s(model: Model, rng: random.Random) -> float:
    return data.published(model.source, model.published).at(rng.random())


def _prompt(question: Question) -> str:
    part = question.request.messages[-1].parts[0]
    return part.text if isinstance(part, TextPart) else ""
