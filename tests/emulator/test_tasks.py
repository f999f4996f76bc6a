"""Tasks with a truth, and models that err in a stated share of them."""

from __future__ import annotations

import random

import orjson
import pytest

from relay.emulator import tasks
from relay.emulator.answer import Asked, Wanted, make_answer
from relay.emulator.distributions import Fixed
from relay.emulator.script import Script, ScriptError
from relay.emulator.wires.openai_chat import OpenAIChat

TRUTHS = {
    "What is 17 + 25?": "42",
    "What is 123 * 47?": "5781",
    "Which date is 45 days after 2026-03-14?": "2026-04-28",
    "Convert 3 kilometres to metres.": "3000",
    'Spell the word "planet" backwards.': "tenalp",
    "The order of Ms Silva has the number 48213, weighs 3 kg and is due on Friday. What is the"
    " number of the order?": "48213",
}


@pytest.mark.parametrize(("prompt", "truth"), TRUTHS.items())
def test_truths(prompt: str, truth: str) -> None:
    found = tasks.find(f"Please: {prompt} Thanks.")
    assert found is not None
    assert found.truth == truth


@pytest.mark.parametrize("kind", tasks.KINDS)
def test_each_kind_is_made_solved_spoilt_and_judged(kind: str) -> None:
    rng = random.Random(7)
    for _ in range(50):
        prompt, task = tasks.make(rng, kind)
        assert task.kind == kind
        right, is_wrong = tasks.answer(prompt, rng, 0.0)
        assert tasks.holds(right, task.truth)
        assert not is_wrong
        wrong, is_wrong = tasks.answer(prompt, rng, 1.0)
        assert not tasks.holds(wrong, task.truth)
        assert is_wrong
        assert tasks.judge(f"{prompt}\n{right}", rng, 0.0) == ("yes", False)
        assert tasks.judge(f"{prompt}\n{wrong}", rng, 0.0) == ("no", False)
        assert tasks.judge(f"{prompt}\n{wrong}", rng, 1.0) == ("yes", True)
        assert tasks.rate(prompt, rng, 0.0)[0] == ("large" if task.is_hard else "small")


def test_no_task() -> None:
    assert tasks.find("Hello") is None
    assert tasks.find("Which date is 1 days after 2026-99-14?") == tasks.Task(
        "date", True, "unknown"
    )
    assert tasks.answer("Hello", random.Random(1), 0.0) == ("I do not know.", True)


def test_the_stated_share_is_wrong() -> None:
    rng = random.Random(7)
    wrong = sum(tasks.answer("What is 1 + 2?", rng, 0.2)[1] for _ in range(4000))
    assert wrong == pytest.approx(800, abs=100)


def test_a_script_says_so() -> None:
    behaviour = Script().parse("text=solve,wrong=0.25,nll=0.1,wrong_nll=exp:2")
    assert (behaviour.text, behaviour.wrong) == ("solve", 0.25)
    with pytest.raises(ScriptError, match="nll"):
        Script().parse("nll=-1")


def test_log_probabilities_are_given_to_who_asks() -> None:
    wire = OpenAIChat()
    wanted = Wanted(text="solve", nll=Fixed(0.25), wrong_nll=Fixed(2.0), wrong=1.0)
    body = {"model": "m", "messages": [{"role": "user", "content": "What is 1 + 2?"}]}
    asked = wire.ask("", {**body, "logprobs": True, "stream": True}, 10)
    answer = make_answer(asked, wanted, random.Random(1), 1)
    chunks = [
        orjson.loads(before[len(b"data: ") :])
        for _, before, _ in wire.events(answer)
        if before.startswith(b"data: {")
    ]
    entries = [
        entry
        for chunk in chunks
        for choice in chunk["choices"]
        for entry in (choice.get("logprobs") or {}).get("content", ())
    ]
    assert "".join(entry["token"] for entry in entries) == answer.text
    assert {entry["logprob"] for entry in entries} == {-2.0}
    whole = orjson.loads(wire.body(answer))
    assert whole["choices"][0]["logprobs"]["content"] == entries
    plain = make_answer(wire.ask("", body, 10), wanted, random.Random(1), 1)
    assert plain.logprobs == []
    assert make_answer(Asked("m", logprobs=True), Wanted(), random.Random(1), 1).logprobs == []
