"""A panel: several models get the same request, and one of their answers is given, whole.

The members are asked at once. Whoever can no longer change the decision is cancelled at once, so
that it costs no more tokens. The answer that is given is a member's own, never put together; it is
released when the decision is made, so its first token comes when the decisive answer is whole.
"""

from __future__ import annotations

import string
from dataclasses import replace
from typing import Final, TypeVar

from relay.answer import Answer
from relay.config.model import ConfigError
from relay.config.panels import PanelConfig, PanelMemberConfig
from relay.content import GenerateRequest
from relay.errors import AttemptTimeout, RelayError, UnsupportedFeature
from relay.policy.base import Legs
from relay.policy.cascade_answer import TierAnswer
from relay.policy.panel_best_of import BestOf
from relay.policy.panel_decide import Case, Choice, Decider, Way
from relay.policy.panel_errors import NoAgreement, TooFewAnswers
from relay.policy.panel_judged import Judged
from relay.policy.panel_majority import Majority
from relay.policy.panel_poll import Failed, Poll

T = TypeVar("T")

MARGIN_S: Final = 0.025
"""Before a budget of the request ends, the decision is made by what is there."""


class Panel:
    """A `relay.policy.base.Composition`; made once a configuration.

    Raises:
        ConfigError: `decide.best_of.schema` is no schema.
    """

    def __init__(self, name: str, config: PanelConfig) -> None:
        self.name = name
        self._config = config
        self._members = config.members
        labels = string.ascii_lowercase[: len(self._members)]
        self._labels = tuple(labels)
        self._names = [
            f"{label} ({member.model})" for label, member in zip(labels, self._members, strict=True)
        ]
        try:
            self._way = _way(config, self._members)
        except ConfigError as error:
            raise ConfigError(f"policies.panels.{name}.{error}") from None
        judge = config.judge_model
        asked = [member.model for member in self._members] + ([] if judge is None else [judge])
        self.models = tuple(dict.fromkeys(asked))
        self.legs_at_once = max(len(self._members), self._way.judges_at_once)

    async def compose(self, request: GenerateRequest, legs: Legs) -> Answer:
        """See `relay.policy.base.Composition`.

        Raises:
            TooFewAnswers: fewer members answered than are needed; with the causes.
            NoAgreement: they did, and by the panel's own rules that is no answer.
            UnsupportedFeature: several choices are asked for (`n`).
        """
        decision = legs.decision
        decision.composition = "panel"
        decision.name = self.name
        if (choices := request.sampling.choices) is not None and choices > 1:
            raise UnsupportedFeature(f"n = {choices}", f"panel {self.name!r}")
        run = _Run(self, request, legs)
        try:
            choice = await run.choice()
        except TooFewAnswers:
            decision.outcome, decision.reason = "too_few", "fail"
            raise
        except NoAgreement:
            decision.outcome, decision.reason = "no_agreement", "fail"
            raise
        decision.outcome, decision.reason = choice.outcome, choice.reason
        choice.answered.leg.entry["is_chosen"] = True
        answer = choice.answered.leg.answer()
        if self._way.wants_logprobs and not request.sampling.logprobs:
            return TierAnswer(answer, hides_logprobs=True)
        return answer

    # --- for a run --------------------------------------------------------------------------

    @property
    def config(self) -> PanelConfig:
        return self._config

    @property
    def way(self) -> Way:
        return self._way

    @property
    def names(self) -> list[str]:
        """Of the members, for messages."""
        return self._names

    def asked(self, request: GenerateRequest) -> list[tuple[str, str, GenerateRequest]]:
        """Label, alias and request of each member."""
        return [
            (label, member.model, _for(member, request, self._way.wants_logprobs))
            for label, member in zip(self._labels, self._members, strict=True)
        ]


class _Run:
    """Of one request; bound to its task."""

    def __init__(self, panel: Panel, request: GenerateRequest, legs: Legs) -> None:
        self._panel = panel
        self._config = panel.config
        self._request = request
        self._legs = legs
        self._began_s = legs.clock()
        self._poll = Poll(panel.names)
        budgets = request.policy.budgets
        limits = [limit for limit in (budgets.first_token_s, budgets.total_s) if limit is not None]
        self._end_s = legs.received_s + min(limits) - MARGIN_S if limits else None
        """When there must be an answer; None: whenever."""

    async def choice(self) -> Choice:
        """
        Cancelled: nobody waits for a leg any more; the legs are their owner's to stop.
        """
        poll, choice = self._poll, None
        try:
            poll.start(self._legs, self._panel.asked(self._request))
            case = Case(self._panel.name, self._request, self._legs)
            decider = self._panel.way.decider(case)
            outcome = await self._gather(decider)
            stopped = poll.stop(outcome)
            await poll.aclose()
            if len(poll.answered) < self._config.min_answers:
                choice = self._too_few(stopped)
            else:
                choice = await decider.choose(self._judge_s())
            return choice
        finally:
            poll.part(None if choice is None else choice.answered)
            await poll.aclose()

    async def _gather(self, decider: Decider) -> str:
        """Wait until it can be decided, or nobody is left.

        Returns:
            What is said of those who were not waited for.
        """
        poll, config = self._poll, self._config
        until_s, is_late = self._wait_end_s(), False
        while poll.awaited:
            answers = len(poll.answered)
            has_enough = answers >= config.min_answers
            if has_enough and config.early_stop and decider.is_settled:
                return "not_needed"
            if config.first_n is not None and answers >= config.first_n:
                return "not_needed"
            if is_late and answers:
                return "late"
            is_lost = answers + poll.awaited < config.min_answers
            if is_lost and (config.on_too_few == "fail" or answers):
                return "not_needed"
            left_s = None if until_s is None else max(0.0, until_s - self._legs.clock())
            news = await poll.news(left_s)
            if not news:
                if answers or is_late or config.on_too_few == "fail":
                    return "late"
                until_s, is_late = self._end_s, True  # the first that comes is it
            for one in news:
                if isinstance(one, Failed):
                    decider.drop(one.member)
                else:
                    await decider.add(one)
        return "not_needed"

    def _wait_end_s(self) -> float | None:
        """When the decision is made by what is there."""
        limits = []
        if self._config.wait_ms is not None:
            limits.append(self._began_s + self._config.wait_ms / 1000)
        if self._end_s is not None:
            left_s = max(0.0, self._end_s - self._began_s)
            limits.append(self._end_s - min(self._panel.way.judge_s, left_s / 2))
        return min(limits, default=None)

    def _judge_s(self) -> float:
        judge_s = self._panel.way.judge_s
        if self._end_s is None:
            return judge_s
        return min(judge_s, max(0.0, self._end_s - self._legs.clock()))

    def _too_few(self, stopped: list[int]) -> Choice:
        """
        Raises:
            TooFewAnswers: see there.
        """
        poll, config = self._poll, self._config
        if config.on_too_few == "any" and poll.answered:
            return Choice(poll.answered[0], "too_few", "any")
        waited_ms = (self._legs.clock() - self._began_s) * 1000
        failures: dict[int, RelayError] = {one.member: one.error for one in poll.failed}
        for member in stopped:
            failures[member] = AttemptTimeout(f"no whole answer after {waited_ms:.0f} ms")
        raise TooFewAnswers(
            self._panel.name,
            asked=len(self._panel.names),
            answered=len(poll.answered),
            needed=config.min_answers,
            failures=[(poll.name(member), failures[member]) for member in sorted(failures)],
        )


def _way(config: PanelConfig, members: tuple[PanelMemberConfig, ...]) -> Way:
    decide = config.decide
    if decide.majority is not None:
        return Majority(decide.majority, members)
    if decide.judge is not None:
        return Judged(decide.judge, len(members))
    assert decide.best_of is not None  # noqa: S101 - the configuration has seen to it
    return BestOf(decide.best_of, len(members))


def _for(
    member: PanelMemberConfig, request: GenerateRequest, wants_logprobs: bool
) -> GenerateRequest:
    """The client's request, as this member is asked."""
    said = request.sampling
    sampling = replace(
        said,
        temperature=_own(member.temperature, said.temperature),
        top_p=_own(member.top_p, said.top_p),
        seed=_own(member.seed, said.seed),
        max_output_tokens=_own(member.max_output_tokens, said.max_output_tokens),
        logprobs=True if wants_logprobs else said.logprobs,
    )
    return request if sampling == said else replace(request, sampling=sampling)


def _own(own: T | None, theirs: T | None) -> T | None:
    return theirs if own is None else own
