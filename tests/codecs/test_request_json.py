"""What wires share in writing a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from relay.codecs.registry import BUILDERS
from relay.codecs.request_json import CHAT_ONLY, cache_key, refuse_asked
from relay.content import GenerateRequest, Message, Policy, PromptCache, Role, Sampling, TextPart
from relay.errors import UnsupportedFeature

HELLO = Message(Role.USER, (TextPart("Hi"),))


def asked(key: str = "", mode: PromptCache = "auto", session_id: str = "call 7") -> GenerateRequest:
    policy = Policy(prompt_cache=mode, session_id=session_id)
    return GenerateRequest("m", (HELLO,), prompt_cache_key=key, policy=policy)


def test_cache_key_is_of_the_session_and_does_not_name_it() -> None:
    made = cache_key(asked())
    assert len(made) == 32
    assert "call" not in made
    assert made == cache_key(asked())
    assert made != cache_key(asked(session_id="call 8"))


@pytest.mark.parametrize(
    ("request_", "key"),
    [
        (asked("mine"), "mine"),
        (asked("mine", "off"), "mine"),
        (asked(mode="off"), ""),
        (asked(mode=""), ""),
        (asked(session_id=""), ""),
    ],
)
def test_cache_key_of_the_client_or_none(request_: GenerateRequest, key: str) -> None:
    assert cache_key(request_) == key


@pytest.mark.parametrize(
    ("wire", "quirks", "key", "is_sent"),
    [
        ("openai_chat", {}, "", False),  # a strict host would answer 400
        ("openai_chat", {}, "mine", True),
        ("openai_chat", {"has_cache_key": True}, "", True),
        ("openai_chat", {"has_cache_key": True, "leaves_out": ["prompt_cache_key"]}, "", False),
        ("openai_responses", {}, "", True),
        ("openai_responses", {"leaves_out": ["prompt_cache_key"]}, "", False),
        ("anthropic_messages", {}, "mine", False),
        ("gemini", {}, "mine", False),
        ("ollama", {}, "mine", False),
    ],
)
def test_cache_key_is_sent_where_it_is_known(
    wire: str, quirks: dict[str, Any], key: str, is_sent: bool
) -> None:
    request = asked(key)
    body = orjson.loads(BUILDERS[wire](quirks, "p")().encode_request(request, "m").body)
    assert body.get("prompt_cache_key") == (cache_key(request) if is_sent else None)


@pytest.mark.parametrize("name", CHAT_ONLY)
def test_what_only_chat_can_say(name: str) -> None:
    for nothing in (None, *CHAT_ONLY[name]):
        refuse_asked({name: nothing}, CHAT_ONLY, "p")
    refuse_asked({}, CHAT_ONLY, "p")
    with pytest.raises(UnsupportedFeature) as raised:
        refuse_asked({name: {"x": 1}}, CHAT_ONLY, "p")
    assert raised.value.feature == name


@pytest.mark.parametrize("wire", BUILDERS)
def test_empty_stop_texts_say_nothing(wire: str) -> None:
    def body_of(*stop: str) -> bytes:
        request = replace(asked(""), sampling=Sampling(stop=stop))
        return BUILDERS[wire]({}, "p")().encode_request(request, "m").body

    assert body_of("", "") == body_of()
    if wire != "openai_responses":
        assert body_of("", "END") == body_of("END") != body_of()
