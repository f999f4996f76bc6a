"""What is asked: prompts of two lengths that no prompt cache has seen, and a short answer.

Two lengths, so that what a prompt adds to the first token is seen apart from what the door takes
anyhow. The words differ from the first on, from request to request: a provider that caches prompts
by itself would answer the same one faster than anybody's first turn.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.content import GenerateRequest, Message, ReasoningOptions, Role, Sampling, TextPart
from relay.tokens import estimate_prompt_tokens

SHORT_TOKENS: Final = 100
LONG_TOKENS: Final = 2000
OUTPUT_TOKENS: Final = 16
"""The least that the Responses API takes."""
_MARGIN: Final = 1.5
"""Over what bytes say. The words are common ones, one token each in current tokenizers, and bytes
already say a third more."""
_UNSEEN_TOKENS: Final = 32
"""What a provider puts around a prompt."""

_ORDER: Final = "\n\nThe words above mean nothing. Reply with the word OK and nothing else."
_TEXT: Final = (
    "about above across after again air along always animal answer apple around back bank bird"
    " black blue board boat body book bread bridge bright bring brother brown build car cat chair"
    " child city clear cloud cold color corner count country day deep door down dream drink early"
    " earth east evening eye fall family farm field fire first fish floor flower food forest free"
    " friend garden glass gold good grass green ground hand happy heart high hill home horse house"
    " island kitchen lake land large leaf letter light line long market middle milk money moon"
    " morning mountain mouth music name near new night north ocean old open paper park people"
    " picture place plant quiet rain red river road rock room round school sea second seven short"
    " silver sister sky small snow song south spring stone story street summer sun table tall ten"
    " three time town train travel tree under valley village voice walk wall warm water west white"
    " wind window winter wood word yellow young"
)
_WORDS: Final = _TEXT.split()


class Shape(NamedTuple):
    """Of all requests of one measuring."""

    long_tokens: int = LONG_TOKENS
    """About, of every second prompt; the others have `SHORT_TOKENS`."""
    output_tokens: int = OUTPUT_TOKENS
    effort: str = ""
    """Of reasoning; empty for the provider's default."""


class Question(NamedTuple):
    """One request, ready to be put to any door."""

    request: GenerateRequest
    is_long: bool
    estimated_tokens: int
    """Of the prompt, from bytes."""
    most_tokens: int
    """That a door will count for the prompt; the worst cost is reckoned with it."""


def question(shape: Shape, rng: random.Random, *, is_long: bool) -> Question:
    """A prompt that nobody has sent before."""
    count = shape.long_tokens if is_long else SHORT_TOKENS
    text = " ".join(rng.choices(_WORDS, k=count)) + _ORDER
    request = GenerateRequest(
        model="",
        messages=(Message(Role.USER, (TextPart(text),)),),
        sampling=Sampling(max_output_tokens=shape.output_tokens),
        reasoning=ReasoningOptions(effort=shape.effort),
    )
    estimated = estimate_prompt_tokens(request)
    return Question(request, is_long, estimated, round(_MARGIN * estimated) + _UNSEEN_TOKENS)


def lengths(samples: int) -> Iterator[bool]:
    """Whether each of so many prompts is a long one: every second is."""
    return (bool(number % 2) for number in range(samples))
