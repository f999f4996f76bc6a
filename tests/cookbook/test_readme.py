"""The table of policies in the README: each line is served as it stands, and one request shows in
its decision that it does what its row says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import pytest
import yaml
from rtrelay.v1 import Start

from tests.docs.pages import DOCS, headings
from tests.fakes.converse_client import prompt
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.relay_under_test import provider, relay_under_test

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
TABLE = README.split("<!-- policies:")[1].split("<!-- the end of policies -->")[0]
ROWS: Final = [
    (cells[0].strip(), cells[1].strip(" `"), cells[3])
    for cells in (line.strip("|").split("|") for line in TABLE.splitlines()[3:])
    if len(cells) == 4
]
"""What, the file's part, pages."""
PRICE = {"input": 1.0, "output": 10.0}
SAYS: Final[dict[str, Any]] = {"text": "It is Paris.", "itl": 0, "in": 100, "out": 3}
COST_MICRO = 130
"""Of an answer of any alias."""


CARD = {
    "guardrail": "cards",
    "scanner": "pii.card",
    "side": "input",
    "action": "redact",
    "count": 1,
}


class Shown(NamedTuple):
    """One request, asked twice where the second is another."""

    model: str
    decision: dict[str, Any]
    """What the last one's has."""
    legs: int = 0
    saved_micro: int = 0
    text: str = "Where is it?"
    again: str = ""
    judge: str = SAYS["text"]
    """What the alias of that name says."""


SHOWN: Final = [
    Shown("auto", {"asked": "auto"}),
    Shown("careful", {"composition": "cascade", "outcome": "small", "reason": "accepted"}, legs=1),
    Shown("agreed", {"composition": "panel", "outcome": "agreed", "reason": "quorum"}, legs=3),
    Shown("voice", {"experiment": "ab"}),
    Shown("voice", {}),
    Shown("fast", {"cache": "hit"}, saved_micro=COST_MICRO, again="Where is it?"),
    Shown(
        "voice",
        {"cache": "semantic"},
        saved_micro=COST_MICRO,
        text="How do I reset my password?",
        again="how do i reset my password",
    ),
    Shown("fast", {"guards": [CARD]}, text="It is 4111 1111 1111 1111."),
    Shown("fast", {}, legs=2, judge="ALLOW"),
]
"""By row."""


def test_each_row_is_shown_and_has_a_page() -> None:
    assert len(ROWS) == len(SHOWN)
    for _, text, pages in ROWS:
        assert yaml.safe_load(text)
        for path, _, heading in re.findall(r"\(docs/([\w.-]+)(#([\w-]+))?\)", pages):
            assert (DOCS / path).exists()
            assert not heading or heading in headings(DOCS / path)


@pytest.mark.sockets
@pytest.mark.parametrize(
    ("row", "shown"), [*zip(ROWS, SHOWN, strict=True)], ids=[title[:30] for title, _, _ in ROWS]
)
async def test_row(row: tuple[str, str, str], shown: Shown, emulator: EmulatorProcess) -> None:
    section = yaml.safe_load(row[1])
    if "semantic" in section.get("cache", {}) and importlib.util.find_spec("wordllama") is None:
        pytest.skip("the extra `semantic` is not installed")
    aliases = ("fast", "accurate", "judge", "voice")
    for alias in aliases:
        text = shown.judge if alias == "judge" else SAYS["text"]
        emulator.script(f"readme-{alias}", {**SAYS, "text": text})
    document = {
        "providers": {
            "lab": provider(
                emulator.base_url_tls,
                ca_file=emulator.ca_file,
                prices={f"readme-{alias}": PRICE for alias in aliases},
            )
        },
        "models": {
            alias: {"candidates": [{"provider": "lab", "model": f"readme-{alias}"}]}
            for alias in aliases
        },
        **section,
    }
    async with relay_under_test(document) as relay:
        decision: dict[str, Any] = {}
        for text in filter(None, (shown.text, shown.again)):
            found = await relay.generate(Start(model=shown.model, prompt=prompt(text)))
            assert found.error is None, found.error
            assert found.answer.end is not None
            decision = orjson.loads(found.answer.end.decision_json or b"{}")
        assert {key: decision.get(key) for key in shown.decision} == shown.decision
        assert len(decision.get("legs", ())) == shown.legs
        assert decision.get("saved_micro", 0) == shown.saved_micro
        for leg in decision.get("legs", ()):
            if leg["outcome"] != "not_needed":  # stopped, and estimated
                assert leg["cost_micro"] == COST_MICRO
