"""The answer that most members agree on."""

from __future__ import annotations

from collections.abc import Sequence

from relay.config.panels import MajorityConfig, PanelMemberConfig, TieRule
from relay.policy.equality import Equality
from relay.policy.panel_decide import Case, Choice
from relay.policy.panel_errors import NoAgreement
from relay.policy.panel_judge import Judge
from relay.policy.panel_poll import Answered
from relay.policy.panel_ties import broken
from relay.policy.votes import VOTE, Group, Votes


class Majority:
    """See the module; made once a configuration."""

    wants_logprobs = False

    def __init__(self, config: MajorityConfig, members: Sequence[PanelMemberConfig]) -> None:
        self.config = config
        self.equality = Equality(config.equality)
        self.votes = tuple(round(member.weight * VOTE) for member in members)
        quorum = sum(self.votes) // 2 + 1
        self.quorum = quorum if config.quorum is None else round(config.quorum * VOTE)
        self.judge = Judge(config.judge) if config.judge is not None else None
        self.judge_s = self.judge.timeout_s if self.judge is not None else 0.0
        self.judges_at_once = self.judge.questions(len(members)) if self.judge is not None else 0

    def decider(self, case: Case) -> MajorityDecider:
        return MajorityDecider(self, case)


class MajorityDecider:
    """Of one request. Of those who agree, the answer that was there first is given: it stays the
    same one whoever else agrees later."""

    def __init__(self, way: Majority, case: Case) -> None:
        self._way = way
        self._case = case
        self._votes = Votes(way.votes, way.quorum, way.equality.distance)
        self._answered: dict[int, Answered] = {}

    async def add(self, answered: Answered) -> None:
        group = self._votes.add(answered.member, self._way.equality.said(answered.whole))
        self._answered[answered.member] = answered
        answered.leg.entry["vote"] = group.number

    def drop(self, member: int) -> None:
        self._votes.drop(member)

    @property
    def is_settled(self) -> bool:
        votes = self._votes
        if votes.agreed is not None:
            return True
        if votes.can_agree:
            return False
        rule = self._way.config.no_quorum
        if rule == "judge":
            return len(votes.groups) > 1
        return rule == "fail" or votes.has_settled_lead

    async def choose(self, judge_s: float) -> Choice:
        votes, rule = self._votes, self._way.config.no_quorum
        if votes.agreed is not None:
            return Choice(self._first_of(votes.agreed), "agreed", "quorum")
        if rule == "fail":
            many = len(votes.groups)
            raise NoAgreement(
                f"panel {self._case.panel!r}: {len(self._answered)} answers say {many} different"
                f" things, and no {self._way.quorum / VOTE:g} votes are for one of them"
            )
        judge, groups, reason = self._way.judge, votes.groups, "tie"
        if judge is not None and rule == "judge" and len(groups) > 1:
            groups, reason = await self._judged(judge, groups, judge_s)
            if reason == "judge":
                return Choice(self._first_of(groups[0]), "judged", reason)
        leading = _most_votes(groups)
        if len(leading) == 1:
            lead = "lead" if reason == "tie" else reason
            return Choice(self._first_of(leading[0]), "plurality", lead)
        tie_rule = self._way.config.on_tie
        if judge is not None and tie_rule == "judge" and reason == "tie":
            leading, reason = await self._judged(judge, leading, judge_s)
            if reason == "judge":
                return Choice(self._first_of(leading[0]), "judged", reason)
        return self._tied(leading, "first" if tie_rule == "judge" else tie_rule, reason)

    def _tied(self, groups: Sequence[Group], rule: TieRule, reason: str) -> Choice:
        if rule == "fail":
            answers = [self._first_of(group) for group in groups]
        else:
            answers = [self._answered[member] for group in groups for member in group.members]
        return Choice(broken(rule, answers, self._case.panel), "plurality", reason)

    async def _judged(
        self, judge: Judge, groups: Sequence[Group], judge_s: float
    ) -> tuple[list[Group], str]:
        """What is left of these, and the reason."""
        answers = [self._first_of(group) for group in groups]
        case = self._case
        verdict = await judge.verdict(case.request, case.legs, answers, judge_s)
        left = [groups[index] for index in verdict.best]
        if not verdict.has_word:
            return left, "judge_failed"
        return left, "judge" if len(left) == 1 else "judge_tie"

    def _first_of(self, group: Group) -> Answered:
        return self._answered[group.members[0]]


def _most_votes(groups: Sequence[Group]) -> list[Group]:
    most = max(group.votes for group in groups)
    return [group for group in groups if group.votes == most]
