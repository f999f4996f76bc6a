"""Languages of short utterances: what is told apart, and that the rest stays untold."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.policy.language import MAX_CHARS, language_of, languages_of
from relay.policy.languages import LANGUAGES, WORDS
from tests.fakes.properties import examples

SAID = {
    "en": ["Hello", "Could you move my appointment to Friday?", "no thanks, that's all I need"],
    "de": ["Guten Tag", "Ich möchte meinen Termin verschieben", "Wie lange haben Sie geöffnet?"],
    "fr": ["Bonjour", "Je voudrais changer mon rendez-vous", "où est l'hôtel le plus proche ?"],
    "es": ["Hola", "Quiero cambiar mi cita para el viernes", "¿A qué hora abren mañana?"],
    "pt": ["Olá", "Eu quero mudar o meu horário, por favor", "Não recebi a minha encomenda"],
    "it": ["Ciao", "Vorrei spostare il mio appuntamento", "Quanto costa la spedizione?"],
    "nl": ["Goedemorgen", "Ik wil mijn afspraak verzetten", "Hoe laat gaan jullie open?"],
    "sv": ["Hej, jag vill boka om min tid", "Hur mycket kostar det att skicka?"],
    "da": ["Jeg vil gerne ændre min tid, hvad gør jeg?", "Hvor meget koster det?"],
    "nb": [
        "Jeg vil gjerne endre timen, hva gjør jeg nå?",
        "Hvor mye koster det? Hva må jeg gjøre?",
    ],
    "fi": ["Hei, haluan siirtää ajan", "Mitä tämä maksaa? Kiitos"],
    "pl": ["Dzień dobry", "Chciałbym zmienić termin wizyty", "Ile to kosztuje, proszę?"],
    "cs": ["Dobrý den, chci změnit termín", "Kolik to stojí, prosím? Kde jste?"],
    "hu": ["Szia, szeretnék időpontot kérni", "Mennyibe kerül ez a csomag?"],
    "ro": ["Bună ziua, aș vrea să schimb programarea", "Cât costă și unde sunt actele?"],
    "tr": ["Merhaba, randevumu değiştirmek istiyorum", "Bu ne kadar?"],
    "vi": ["Xin chào, tôi muốn đổi lịch hẹn", "Cái này giá bao nhiêu? Cảm ơn"],
    "id": ["Saya mau mengubah jadwal saya", "Berapa harga barang ini? Terima kasih"],
    "ru": ["Здравствуйте, хочу перенести запись", "Сколько это стоит?"],
    "uk": ["Доброго дня, я хочу змінити час", "Скільки це коштує?"],
    "bg": ["Здравейте, искам да променя часа си", "Колко струва това? Благодаря"],
    "sr": ["Желим да променим термин", "Колико ово кошта? Хвала вам"],
    "el": ["Καλημέρα, πόσο κοστίζει;"],
    "he": ["שלום, כמה זה עולה?"],
    "ar": ["مرحبا، أريد تغيير موعدي"],
    "fa": ["سلام، می‌خواهم وقتم را عوض کنم"],
    "ur": ["میں اپنا وقت بدلنا چاہتا ہوں"],
    "hi": ["नमस्ते, मुझे समय बदलना है"],
    "mr": ["नमस्कार, मला वेळ बदलायची आहे"],
    "bn": ["আমি সময় বদলাতে চাই"],
    "ta": ["எனக்கு உதவி வேண்டும்"],
    "te": ["నాకు సహాయం కావాలి"],
    "th": ["สวัสดีครับ ราคาเท่าไหร่"],
    "ka": ["გამარჯობა"],
    "hy": ["Բարեւ"],
    "am": ["ሰላም"],
    "ko": ["안녕하세요, 예약을 바꾸고 싶어요"],
    "ja": ["予約を変更したいです", "カード"],
    "zh": ["你好，我想改预约", "iPhone 手机多少钱"],
}


@pytest.mark.parametrize("code", SAID)
def test_what_callers_say(code: str) -> None:
    assert [language_of(text) for text in SAID[code]] == [code] * len(SAID[code])


@pytest.mark.parametrize(
    "text",
    ["", "   ", "12345", "ok", "hm", "!?", "Qwrtz plmk", "😀😀", "SELECT 1", "https://x.test/a?b=c",
     "Taxi", "\ud800", "\x00"],
)  # fmt: skip
def test_what_cannot_be_told_is_not_told(text: str) -> None:
    assert language_of(text) == ""


def test_two_that_are_as_likely_are_both_told() -> None:
    assert {*languages_of("jeg vil ikke")} == {"da", "nb"}
    assert language_of("jeg vil ikke") == ""
    assert languages_of("hvad er det her") == ("da",)


def test_a_name_in_another_script_does_not_change_the_language() -> None:
    assert language_of("Where can I find the office of Юрий in this building?") == "en"
    assert language_of("Где находится офис Microsoft в этом здании?") == "ru"


def test_only_the_beginning_counts() -> None:
    german = "Wo ist der Zug und wann kommt er? " * 20
    assert len(german) > MAX_CHARS
    assert language_of(german + "Where is the train? " * 200) == "de"


def test_a_long_text_costs_no_more_than_its_beginning() -> None:
    text = "слово " * 200_000
    began_s = time.perf_counter()
    for _ in range(100):
        language_of(text)
    assert time.perf_counter() - began_s < 1.0  # read whole it would be a minute


def test_every_language_can_be_found_and_its_words_are_its_own_once() -> None:
    assert {*SAID} <= {*LANGUAGES}
    for words in WORDS.values():
        listed = words.split()
        assert len(listed) == len(set(listed))
        assert words == words.lower()


@examples(200, full=20_000)
@given(st.text(max_size=600))
def test_it_takes_any_text_and_is_sure_of_itself(text: str) -> None:
    found = language_of(text)
    assert found == "" or found in LANGUAGES
    assert {*languages_of(text)} <= {*LANGUAGES}
    assert language_of(text) == found
    assert language_of(text[:MAX_CHARS]) == found
