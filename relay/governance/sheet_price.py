"""What tokens of one model cost at one provider, in whole pico-dollars.

Providers price a request by its kinds of tokens, and some the whole request higher where its prompt
is longer than a mark. What has no price of its own is paid as what it is a part of: cached tokens
as input, reasoning as output.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, NamedTuple

from relay.governance.money import PICO, micro_half_up, micro_up


class Rates(NamedTuple):
    """Pico-dollars a token, by kind; None where it is paid as what it is a part of."""

    input: int
    cached: int | None = None
    cache_write: int | None = None
    """Of what is put into the provider's cache for minutes."""
    output: int = 0
    reasoning: int | None = None
    long_cache_write: int | None = None
    """Of what is put there for an hour."""
    audio_input: int | None = None
    cached_audio: int | None = None
    image_input: int | None = None
    cached_image: int | None = None
    video_input: int | None = None
    audio_output: int | None = None
    image_output: int | None = None
    video_output: int | None = None


class Tokens(NamedTuple):
    """What one answer took; every part is inside what is named before the colon.

    prompt: `cached`, `cache_write`, `audio_input`, `image_input`, `video_input`; cache_write:
    `long_cache_write`; cached and audio_input (image_input): `cached_audio` (`cached_image`);
    output: the rest.
    """

    prompt: int
    cached: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    long_cache_write: int = 0
    audio_input: int = 0
    cached_audio: int = 0
    image_input: int = 0
    cached_image: int = 0
    video_input: int = 0
    audio_output: int = 0
    image_output: int = 0
    video_output: int = 0


SPECIAL: Final = frozenset(
    {
        "long_cache_write",
        "audio_input",
        "cached_audio",
        "image_input",
        "cached_image",
        "video_input",
        "audio_output",
        "image_output",
        "video_output",
    }
)
"""Kinds that a request has only if it says so."""


class Tier(NamedTuple):
    """Rates of requests whose prompt is longer than `above_tokens`."""

    above_tokens: int
    rates: Rates


class SheetPrice:
    """The price of a model, immutable.

    Args:
        tiers: by `above_tokens`, ascending.
        request_pico: of each request, whatever its tokens.
        version: whose price it is, of which edition.
        not_counted: what else the provider takes money for, which no count of tokens tells
            (`web_searches`): neither booked nor bounded here.
    """

    __slots__ = (
        "_bounds",
        "_usual",
        "not_counted",
        "rates",
        "request_pico",
        "special",
        "tiers",
        "version",
    )

    def __init__(
        self,
        rates: Rates,
        tiers: tuple[Tier, ...] = (),
        *,
        request_pico: int = 0,
        version: str,
        not_counted: tuple[str, ...] = (),
    ) -> None:
        self.rates = rates
        self.tiers = tiers
        self.request_pico = request_pico
        self.version = version
        self.not_counted = not_counted
        every = (rates, *(tier.rates for tier in tiers))
        self.special = frozenset(
            kind for kind in SPECIAL if any(getattr(one, kind) is not None for one in every)
        )
        """Kinds beyond the usual four and reasoning that have a price of their own."""
        self._usual = tuple(
            (above, *_usual(one))
            for above, one in reversed([(-1, rates), *((t.above_tokens, t.rates) for t in tiers)])
        )
        self._bounds = self._dearest(())

    def cost_micro(
        self, prompt: int, cached: int, cache_write: int, output: int, reasoning: int = 0
    ) -> int:
        """Micro-dollars of an answer, the half goes up.

        Args:
            prompt: `cached` and `cache_write` are inside of it.
            output: `reasoning` is inside of it.

        Counts that contradict each other are cut: cached tokens to the prompt, written ones to
        what is left of it. What is below 0 counts as 0.
        """
        if cached < 0 or cache_write < 0 or cached + cache_write > prompt or reasoning > output:
            return self.cost_of(Tokens(prompt, cached, cache_write, output, reasoning))
        for above, fresh, read, write, said, thought in self._usual:
            if prompt > above:
                pico = (
                    (prompt - cached - cache_write) * fresh
                    + cached * read
                    + cache_write * write
                    + self.request_pico
                )
                if reasoning > 0:
                    pico += (output - reasoning) * said + reasoning * thought
                elif output > 0:
                    pico += output * said
                return (pico + 500_000) // PICO
        raise AssertionError("there is a tier for every prompt")

    def cost_of(self, tokens: Tokens) -> int:
        """Micro-dollars of an answer by all its kinds of tokens; as `cost_micro`."""
        return micro_half_up(self._pico(tokens))

    def bound_micro(
        self, prompt_bound: int, output_bound: int, special: Collection[str] = ()
    ) -> int:
        """The most that so many tokens can cost, in micro-dollars that are no less.

        Every token is reckoned as the dearest that it can be, in the dearest tier that a prompt of
        up to this length can come to.

        Args:
            special: what of `SPECIAL` the request has; others of it are left out.
        """
        asked = self.special.intersection(special) if special else ()
        bounds = self._dearest(asked) if asked else self._bounds
        for above, dearest_in, dearest_out in bounds:
            if prompt_bound > above:
                return micro_up(
                    prompt_bound * dearest_in
                    + max(output_bound, 0) * dearest_out
                    + self.request_pico
                )
        return self.bound_micro(0, output_bound, special)

    def _dearest(self, special: Collection[str]) -> tuple[tuple[int, int, int], ...]:
        """The dearest rates in and out of prompts above a length, the longest first: a
        longer prompt is never reckoned cheaper."""
        found: list[tuple[int, int, int]] = []
        most_in = most_out = 0
        for above, one in ((-1, self.rates), *self.tiers):
            most_in = max(most_in, _dearest(one, _INPUT, special))
            most_out = max(most_out, _dearest(one, _OUTPUT, special))
            found.append((above, most_in, most_out))
        return tuple(reversed(found))

    def _pico(self, tokens: Tokens) -> int:
        prompt = max(0, tokens.prompt)
        rates = self.rates
        for tier in self.tiers:
            if prompt <= tier.above_tokens:
                break
            rates = tier.rates
        cached = _within(tokens.cached, prompt)
        written = _within(tokens.cache_write, prompt - cached)
        long_written = _within(tokens.long_cache_write, written)
        cached_audio = _within(tokens.cached_audio, min(cached, tokens.audio_input))
        cached_image = _within(tokens.cached_image, min(cached - cached_audio, tokens.image_input))
        # What is both cached and sound is paid as cached where that has no price of its own.
        fresh = prompt - cached - written
        audio = _within(tokens.audio_input - cached_audio, fresh)
        image = _within(tokens.image_input - cached_image, fresh - audio)
        video = _within(tokens.video_input, fresh - audio - image)

        output = max(0, tokens.output)
        sound = _within(tokens.audio_output, output)
        pictures = _within(tokens.image_output, output - sound)
        film = _within(tokens.video_output, output - sound - pictures)
        thought = _within(tokens.reasoning, output - sound - pictures - film)

        plain, cheap, write, said, thinking = _usual(rates)
        return (
            (fresh - audio - image - video) * plain
            + audio * _or(rates.audio_input, plain)
            + image * _or(rates.image_input, plain)
            + video * _or(rates.video_input, plain)
            + (cached - cached_audio - cached_image) * cheap
            + cached_audio * _or(rates.cached_audio, cheap)
            + cached_image * _or(rates.cached_image, cheap)
            + (written - long_written) * write
            + long_written * _or(rates.long_cache_write, write)
            + (output - sound - pictures - film - thought) * said
            + sound * _or(rates.audio_output, said)
            + pictures * _or(rates.image_output, said)
            + film * _or(rates.video_output, said)
            + thought * thinking
            + self.request_pico
        )


_INPUT: Final = (
    "input",
    "cached",
    "cache_write",
    "long_cache_write",
    "audio_input",
    "cached_audio",
    "image_input",
    "cached_image",
    "video_input",
)
_OUTPUT: Final = (
    "output",
    "reasoning",
    "audio_output",
    "image_output",
    "video_output",
)


def _usual(rates: Rates) -> tuple[int, int, int, int, int]:
    """input, cached, cache_write, output, reasoning."""
    return (
        rates.input,
        _or(rates.cached, rates.input),
        _or(rates.cache_write, rates.input),
        rates.output,
        _or(rates.reasoning, rates.output),
    )


def _dearest(rates: Rates, kinds: tuple[str, ...], special: Collection[str]) -> int:
    return max(
        getattr(rates, kind) or 0 for kind in kinds if kind not in SPECIAL or kind in special
    )


def _within(count: int, room: int) -> int:
    return 0 if count < 0 or room < 0 else min(count, room)


def _or(rate: int | None, other: int) -> int:
    return other if rate is None else rate
