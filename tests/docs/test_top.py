"""docs/top.md: its commands run, and what it names is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import orjson
import pytest

from relay.commands.top_frame import FEW_SAMPLES, SORTS
from relay.commands.top_view import _ALIASES, _TARGETS, SORT_KEYS
from relay.commands.top_words import ERROR_SHARE, LEAST_ERRORS, SILENT_S
from tests.fakes.command import Terminal, relay_command
from tests.fakes.relay_under_test import relay_under_test

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "top.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.sockets
async def test_commands() -> None:
    assert len(COMMANDS) == 4
    async with relay_under_test({"providers": {}, "models": {}}) as relay:
        url = f"http://127.0.0.1:{relay.worker.admin_port}"
        for words in COMMANDS:
            assert words[0] == "relay"
            command = [*words[1:], "--url", url]
            if "--once" in words:
                ran = await relay_command(*command, "--interval", "0.2")
                assert (ran.status, ran.errors) == (0, "")
                if "--json" in words:
                    keys = orjson.loads(ran.output).keys()
                    (told,) = re.findall(r"the keys are (.*?) and some more", TEXT, re.DOTALL)
                    assert set(re.findall(r"`(\w+)`", told)) <= keys
                continue
            async with Terminal(*command) as terminal:
                await terminal.shows("All is well")
                terminal.types("q")
                assert await terminal.exited() == 0


def test_names_are_all_there() -> None:
    for name in SORTS:
        assert f"`{name}`" in TEXT
    for key in SORT_KEYS:
        assert f"`{key}`" in TEXT
    for column in (*_TARGETS[1:], *_ALIASES[1:]):
        if column.title not in ("samples", "failovers", "req/s"):
            assert f"`{column.title}`" in TEXT, column.title


def test_figures() -> None:
    assert f"under {FEW_SAMPLES} samples" in TEXT
    assert f"at least {LEAST_ERRORS}, and a tenth of its attempts" in TEXT
    assert ERROR_SHARE == 0.1
    assert f"silent for over {SILENT_S:.0f} s" in TEXT
