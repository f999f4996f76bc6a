"""Turns as words and numbers, and the turns that are not read at all. Needs no extra."""

from __future__ import annotations

import pytest

from relay.cache.guard_language import language_of
from relay.cache.guard_numbers import counted
from relay.cache.guard_stems import stem
from relay.cache.guard_text import quotations, readable, script_of, words_of


def words(text: str) -> list[str]:
    return [word.text for word in words_of(text)]


@pytest.mark.parametrize(
    "text",
    [
        "pay\u200bpal",  # zero width
        "a\u202eb",  # turned round
        "a\ufeffb",
        "hi\U000e0041\U000e0042",  # tags: hidden instructions
        "a\x00b",
        "a\x1bb",
        "\ue000",  # private use
        "p\u0430ypal",  # Cyrillic a
        "\u0391pple",  # Greek alpha
        "",
        " \n ",
        "x" * 101,
        "\ufdfa" * 100,  # one character that becomes eighteen
    ],
)
def test_not_read(text: str) -> None:
    assert readable(text, max_chars=100) is None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("  a \n\t b ", "a b"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full width"),
        ("e\u0301te\u0301", "été"),
        ("日本のカメラ", "日本のカメラ"),
        ("Ελλάδα and Россия", "Ελλάδα and Россия"),
        ("x²", "x2"),
    ],
)
def test_read(text: str, read: str) -> None:
    assert readable(text, max_chars=100) == read


def test_words() -> None:
    assert words("I don't know, O'Brien: C++ or C#?") == [
        "i", "don't", "know", "o'brien", "c++", "or", "c#",
    ]  # fmt: skip
    assert words("5kg at 17:30 on 2024-03-03, a@b.example!") == [
        "5", "kg", "at", "17:30", "on", "2024-03-03", "a@b.example",
    ]  # fmt: skip
    assert words("f(x) = -2") == ["f", "(", "x", ")", "=", "-2"]


def test_names() -> None:
    def names(text: str) -> list[str]:
        return [word.text for word in words_of(text) if word.is_name]

    assert names("Where is Anna? The iPhone15 of Bob, I think. She's in Rome") == [
        "anna", "iphone15", "bob", "rome",
    ]  # fmt: skip
    assert names("WHERE IS ANNA") == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("twenty five", "#25"),
        ("twenty-five", "#25"),
        ("one hundred and five", "#105"),
        ("two thousand twenty four", "#2024"),
        ("three million two hundred thousand", "#3200000"),
        ("fifteen hundred", "#1500"),
        ("five six", "#5 #6"),
        ("1,000", "#1000"),
        ("1000.0", "#1000.0"),
        ("3.10", "#3.10"),
        ("5k", "#5000"),
        ("2.5 million", "#2500000"),
        ("$5", "#5 $"),
        ("$5 million", "#5000000 $"),
        ("3rd", "#3."),
        ("twenty-first", "#21."),
        ("which one", "which"),
        ("one apple", "#1 apple"),
        ("the red one is", "the red is"),
        ("5 seconds", "#5 seconds"),
        ("a second", "a #2."),
        ("17:30", "#17:30"),
        ("3/4/2024", "#3/4/2024"),
        ("007", "#007"),
        ("-5", "#-5"),
        ("1,00,000", "#1,00,000"),
        ("a pair of", "a #2 of"),
        ("hundred", "#100"),
        ("99999999999999999999", "#99999999999999999999"),
    ],
)
def test_numbers(text: str, found: str) -> None:
    assert " ".join(counted(words(text))) == found


@pytest.mark.parametrize(
    ("one", "other"),
    [("cities", "city"), ("boxes", "box"), ("closing", "close"), ("running", "run"),
     ("colour", "color"), ("children", "child"), ("organise", "organize"), ("taxes", "tax")],
)  # fmt: skip
def test_one_stem(one: str, other: str) -> None:
    assert stem(one) == stem(stem(other)) or stem(one) == stem(other)


@pytest.mark.parametrize(("one", "other"), [("open", "opened"), ("bus", "bu"), ("new", "news")])
def test_two_stems(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("what is the capital of france", "en"),
        ("reset password", "en"),
        ("wie kündige ich mein abo", "de"),
        ("comment puis-je annuler mon abonnement", "fr"),
        ("¿cómo cancelo mi suscripción?", "es"),
        ("come posso annullare il mio abbonamento", "it"),
        ("como posso cancelar a minha assinatura", "pt"),
        ("hoe kan ik mijn abonnement opzeggen", "nl"),
        ("jak zrušit předplatné", ""),
        ("как отменить подписку", ""),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert language_of(words(text), script_of(text)) == code


def test_quotations() -> None:
    assert quotations('Say "Good  Morning" and “bye”') == ("good morning", "bye")
    assert quotations("it's nothing") == ()
