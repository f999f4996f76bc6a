"""The answer with the highest score."""

from __future__ import annotations

import math

from relay.config.panels import BestOfConfig
from relay.policy.panel_decide import Case, Choice
from relay.policy.panel_errors import NoAgreement
from relay.policy.panel_judge import Rater
from relay.policy.panel_poll import Answered
from relay.policy.panel_ties import broken
from relay.policy.scores import highest, score_of


class BestOf:
    """See the module; made once a configuration."""

    def __init__(self, config: BestOfConfig, members: int) -> None:
        self.config = config
        self.score = score_of(config)
        self.highest = highest(config)
        self.rater = Rater(config.judge) if config.judge is not None else None
        self.judge_s = self.rater.timeout_s if self.rater is not None else 0.0
        self.judges_at_once = members if self.rater is not None else 0
        self.wants_logprobs = config.logprobs is not None

    def decider(self, case: Case) -> BestOfDecider:
        return BestOfDecider(self, case)


class BestOfDecider:
    """Of one request."""

    def __init__(self, way: BestOf, case: Case) -> None:
        self._way = way
        self._case = case
        self._scores: dict[Answered, float | None] = {}
        self._has_highest = False

    async def add(self, answered: Answered) -> None:
        score = None
        if self._way.score is not None:
            score = await self._way.score(self._case.request, answered.whole)
            self._note(answered, score)
        self._scores[answered] = score
        self._has_highest |= score is not None and score == self._way.highest

    def drop(self, member: int) -> None:
        pass

    @property
    def is_settled(self) -> bool:
        return self._has_highest and self._way.config.on_tie == "soonest"

    async def choose(self, judge_s: float) -> Choice:
        case, config, scores = self._case, self._way.config, self._scores
        if self._way.rater is not None and (len(scores) > 1 or config.min_score is not None):
            answers = list(scores)
            marks = await self._way.rater.marks(case.request, case.legs, answers, judge_s)
            for answered, mark in zip(answers, marks, strict=True):
                scores[answered] = mark
                self._note(answered, mark)
        least = -math.inf if config.min_score is None else config.min_score
        ranked = {one: -math.inf if mark is None else mark for one, mark in scores.items()}
        most = max(ranked.values())
        if most < least:
            raise NoAgreement(
                f"panel {case.panel!r}: none of {len(scores)} answers scores {least:g} or more"
            )
        best = [one for one, score in ranked.items() if score == most]
        reason = "score"
        if len(scores) == 1:
            reason = "only_answer"
        elif most == -math.inf:
            reason = "no_score"
        elif len(best) > 1:
            reason = "score_tie"
        return Choice(broken(config.on_tie, best, case.panel), "scored", reason)

    @staticmethod
    def _note(answered: Answered, score: float | None) -> None:
        if score is not None:
            answered.leg.entry["score"] = round(score, 4)
