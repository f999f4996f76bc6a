"""The answer that a judge prefers."""

from __future__ import annotations

from relay.config.panels import JudgedConfig
from relay.policy.equality import Equality
from relay.policy.panel_decide import Case, Choice
from relay.policy.panel_judge import Judge
from relay.policy.panel_poll import Answered
from relay.policy.panel_ties import broken


class Judged:
    """See the module; made once a configuration."""

    wants_logprobs = False

    def __init__(self, config: JudgedConfig, members: int) -> None:
        self.config = config
        self.judge = Judge(config)
        self.judge_s = self.judge.timeout_s
        self.judges_at_once = self.judge.questions(members)
        self.equality = Equality("exact")

    def decider(self, case: Case) -> JudgedDecider:
        return JudgedDecider(self, case)


class JudgedDecider:
    """Of one request. Of answers that are the same to the letter the judge sees one."""

    is_settled = False

    def __init__(self, way: Judged, case: Case) -> None:
        self._way = way
        self._case = case
        self._different: dict[object, list[Answered]] = {}

    async def add(self, answered: Answered) -> None:
        said = self._way.equality.said(answered.whole)
        alike = self._different.setdefault(said.key, [])
        alike.append(answered)
        answered.leg.entry["vote"] = list(self._different).index(said.key)

    def drop(self, member: int) -> None:
        pass

    async def choose(self, judge_s: float) -> Choice:
        groups = list(self._different.values())
        if len(groups) == 1:
            is_one = len(groups[0]) == 1
            return Choice(groups[0][0], "judged", "only_answer" if is_one else "alike")
        case = self._case
        verdict = await self._way.judge.verdict(
            case.request, case.legs, [group[0] for group in groups], judge_s
        )
        if len(verdict.best) == 1:
            return Choice(groups[verdict.best[0]][0], "judged", "judge")
        rule = self._way.config.on_tie
        tied = [groups[index] for index in verdict.best]
        answers = [group[0] for group in tied]
        if rule != "fail":
            answers = [one for group in tied for one in group]
        reason = "judge_tie" if verdict.has_word else "judge_failed"
        return Choice(broken(rule, answers, case.panel), "judged", reason)
