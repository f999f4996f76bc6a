"""Openings that are refusals, and ones that only look like it."""

from __future__ import annotations

import time

import pytest

from relay.policy.refusals import Refusals

NONE = Refusals()

REFUSALS = """
I'm sorry, but I can't help with that.
I’m not able to do that.
I cannot assist with this request.
Sorry, but I cannot do this.
I am unable to answer.
I won't be able to help with that.
I must decline this.
Unfortunately, I can't share that.
As an AI language model, I don't have access to your files.
I don't have access to real-time data.
That's something I can't help with.
**I can't help with that.**
Es tut mir leid, aber dabei kann ich nicht helfen.
Das tut mir leid, dabei kann ich nicht helfen.
Leider kann ich Ihnen dabei nicht helfen.
Ich kann dir dabei leider nicht helfen.
Ich bin nicht in der Lage, das zu tun.
Je suis désolé, mais je ne peux pas vous aider.
Lo siento, pero no puedo ayudarte con eso.
Mi dispiace, ma non posso aiutarti.
Desculpe, mas não posso ajudar com isso.
Het spijt me, maar ik kan je daar niet mee helpen.
Przepraszam, ale nie mogę w tym pomóc.
Üzgünüm, bu konuda yardımcı olamam.
Извините, но я не могу помочь с этим.
Вибачте, але я не можу допомогти.
很抱歉，我无法帮助您完成这个请求。
抱歉，我不能提供这些信息。
申し訳ありませんが、その件にはお答えできません。
죄송하지만 그 요청은 도와드릴 수 없습니다.
عذراً، لا أستطيع مساعدتك في ذلك.
क्षमा करें, मैं इसमें मदद नहीं कर सकता।
""".strip().splitlines()

ANSWERS = """
I can't wait to hear about it!
I cannot recommend it enough.
The answer is 42.
You cannot divide by zero.
I'm sorry to hear that! Let's fix your router.
I'm sorry for the wait. Your table is booked.
Sure, I can help with that.
Unfortunately, the train is late by ten minutes.
I am afraid of nothing, said the knight.
I don't think so; it is 12.
As an AI researcher, you might like this paper.
Leider regnet es morgen.
Das kann ich gern machen.
Tut mir leid, dass du warten musstest. Der Zug kommt um neun.
Entschuldigung, das kann ich gleich korrigieren: 12.
Je peux vous aider.
No puedo esperar a verlo.
Posso aiutarti volentieri.
我可以帮助您。
すみません、確認しました。明日は晴れです。
""".strip().splitlines()


@pytest.mark.parametrize("text", REFUSALS)
def test_refusals(text: str) -> None:
    assert NONE.is_one(text)


@pytest.mark.parametrize("text", ANSWERS)
def test_answers(text: str) -> None:
    assert not NONE.is_one(text)


def test_further_on_the_same_words_are_none() -> None:
    assert not NONE.is_one("The train leaves at nine. " * 8 + "I can't help with that.")


def test_further_phrases_are_found_anywhere_in_the_opening() -> None:
    own = Refusals(["not my  DEPARTMENT"])
    assert own.is_one("Well, that’s not my department, I think.")
    assert own.is_one("I can't help with that.")
    assert not own.is_one("It is my department.")


def test_an_apology_may_become_one_until_the_opening_is_over() -> None:
    assert NONE.may_become_one("I'm so sorry")
    assert NONE.may_become_one("Leider")
    assert not NONE.may_become_one("The train")
    assert not NONE.may_become_one("I'm so sorry" + " x" * 200)


@pytest.mark.parametrize("piece", ["so ", "i'm ", "sorry ", "es tut mir ", "hi ", "…", " "])
def test_hostile_openings_are_read_in_no_time(piece: str) -> None:
    text = piece * 100_000
    began_s = time.perf_counter()
    for _ in range(10):
        NONE.is_one(text)
        NONE.may_become_one(text)
    assert time.perf_counter() - began_s < 0.5  # 10 of them; some 20 us each
