"""What the emulated models say: plain sentences that read well aloud, cut into tokens."""

from __future__ import annotations

import random
import re

ANSWERS = (
    "Of course, I can help with that. Your table is booked for seven tomorrow evening, by the "
    "window as you asked. Shall I send you a reminder an hour before?",
    "Good question. The short answer is yes, but it depends on the weather. If it stays dry, the "
    "northern path takes about forty minutes and has the better view. Otherwise take the bus.",
    "I looked it up for you. The next train leaves at ten past nine from platform four and gets "
    "in just before noon. There is one change, and you have twelve minutes for it.",
    "Here is what I found. Three people wrote back, two of them agreed, and one wants to meet on "
    "Thursday instead. I would suggest a call at two, because everyone is free then.",
    "Let me put it simply. Boil the water first, add the salt, and then the pasta. Nine minutes "
    "are enough. Keep a cup of the water for the sauce, it makes all the difference.",
    "That is no problem at all. I have moved the appointment to Friday at half past ten and told "
    "the office. You do not need to do anything else.",
    "It sounds as if the router has lost its settings. Please unplug it, count to ten, and plug "
    "it in again. When the second light turns green, tell me and we will go on from there.",
    "The museum opens at nine and closes at six, and on Sundays the entrance is free. I would go "
    "early, since the queue is short before ten. The garden behind it is lovely in the spring.",
)

REASONING = (
    "The user asks something short, so a short answer fits. First I check what is known, then "
    "what is missing. Nothing here needs a tool. I will answer in two or three sentences."
)

REFUSAL = "I am sorry, but I cannot help with that request."

_TOKEN = re.compile(r"\s*[\w'’]+|\s*[^\w\s]|\s+$")


def to_tokens(text: str) -> list[str]:
    """Cut text into word and punctuation tokens; joined they give the text again."""
    tokens = _TOKEN.findall(text)
    return tokens if "".join(tokens) == text else [text]


# Cut once: a request must not pay for reading eight texts.
_ANSWER_TOKENS = [to_tokens(text) for text in ANSWERS]
_FOLLOWING = [to_tokens(" " + text) for text in ANSWERS]
_REASONING_TOKENS = to_tokens(REASONING)
_MORE_REASONING = to_tokens(" " + REASONING)


def answer_tokens(rng: random.Random, prompt: str, count: int | None) -> list[str]:
    """A canned answer, or as many tokens of canned answers as asked for."""
    start = rng.randrange(len(ANSWERS))
    if count is None:
        words = " ".join(prompt.split()[:6]).strip(" .?!,")
        lead = to_tokens(f"You said “{words}”. ") if words else []
        return lead + _ANSWER_TOKENS[start]
    return _exactly(_ANSWER_TOKENS[start], _FOLLOWING[start + 1 :] + _FOLLOWING[: start + 1], count)


def reasoning_tokens(count: int) -> list[str]:
    """So many tokens of thinking aloud."""
    return _exactly(_REASONING_TOKENS, [_MORE_REASONING], count)


def _exactly(first: list[str], more: list[list[str]], count: int) -> list[str]:
    if count <= 0:
        return []
    tokens = list(first)
    while len(tokens) < count:
        for each in more:
            tokens += each
    del tokens[count:]
    if count > 1 and tokens[-1] != ".":
        tokens[-1] = "."
    return tokens
