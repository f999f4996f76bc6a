"""What is asked on the side, and how replies are read."""

from __future__ import annotations

from dataclasses import replace

from relay.config.cascades import ClassifierConfig, SelfCheckConfig
from relay.content import (
    Budgets,
    FinishReason,
    Message,
    Policy,
    ResponseFormat,
    Role,
    Sampling,
    TextPart,
    Tool,
)
from relay.policy.base import Whole
from relay.policy.classifier import Classifier
from relay.policy.questions import last_user_text, shortened
from relay.policy.self_check import SelfCheck
from tests.policy.cascades import request


def reply(text: str) -> Whole:
    return Whole({0: text}, (), {}, {0: FinishReason.STOP}, None, (), None, 0.0)


def test_a_side_question_has_nothing_of_the_request_but_who_asks() -> None:
    policy = Policy(
        tenant="t",
        key_id="k",
        zones=frozenset({"eu"}),
        traceparent="00-x",
        tags=("a",),
        budgets=Budgets(first_token_s=0.1),
        speculative=True,
        idempotency_key="i",
        timeline=True,
    )
    wanted = request(
        tools=(Tool("t"),),
        response_format=ResponseFormat("json_object"),
        sampling=Sampling(temperature=1.0, choices=3, stop=("a",)),
        extra={"x": 1},
        policy=policy,
    )
    asked = Classifier(ClassifierConfig(model="c")).question(wanted)
    assert (asked.tools, asked.response_format, asked.extra) == ((), None, {})
    assert asked.sampling == Sampling(temperature=0.0, max_output_tokens=8)
    assert asked.policy == replace(
        policy, budgets=Budgets(), speculative=False, idempotency_key="", timeline=False
    )


def test_long_messages_are_cut_in_the_middle() -> None:
    assert shortened("abc", 3) == "abc"
    assert shortened("a" * 50 + "b" * 50, 20) == "a" * 10 + "\n[...]\n" + "b" * 10
    wanted = request("a" * 500 + "b" * 500)
    text = last_user_text(Classifier(ClassifierConfig(model="c", max_chars=100)).question(wanted))
    assert len(text) < 120


def test_a_conversation_stays_before_a_self_check() -> None:
    system = Message(Role.SYSTEM, (TextPart("Be short."),))
    user = Message(Role.USER, (TextPart("What is 1+1?"),))
    check = SelfCheck(SelfCheckConfig())
    asked = check.question(request(messages=(system, user)), "2")
    assert asked is not None
    assert asked.messages[0] is system
    assert [one.role for one in asked.messages] == [Role.SYSTEM, Role.USER]
    last = last_user_text(asked)
    assert "What is 1+1?" in last
    assert "\n2\n" in last
    assert asked.sampling.top_logprobs == 5
    result = Message(Role.TOOL, (TextPart("2"),), tool_call_id="c")
    asked = check.question(request(messages=(user, result)), "2", logprobs=False)
    assert asked is not None
    assert asked.messages[:2] == (user, result)
    assert asked.sampling.logprobs is None


def test_replies() -> None:
    chooses = Classifier(ClassifierConfig(model="c", escalate_on=("Hard",), stay_on=("easy",)))
    assert chooses.tier(reply("**hard**, since")) == "large"
    assert chooses.tier(reply(" Easy")) == "small"
    assert chooses.tier(reply("large")) is None
    assert chooses.tier(reply("")) is None
    check = SelfCheck(SelfCheckConfig())
    assert check.probability(reply("Yes, it is.")) == 1.0
    assert check.probability(reply("no")) == 0.0
    assert check.probability(reply("It is")) is None
