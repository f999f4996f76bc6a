"""The `llm` command, with the relay's models in its extra-openai-models.yaml."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.realclients.behaviours import (
    ANSWERS,
    CITY,
    DAYS,
    ENDLESS,
    LIMITED,
    REPEATS_RESULTS,
    RESULT,
    STRUCTURED,
    TEXT,
    UNKNOWN,
)
from tests.realclients.world import World

TIMEOUT_S = 30.0
WEATHER = f"""
def weather(city: str, days: int) -> str:
    "The weather of a city."
    return {RESULT!r}
"""


class Llm:
    """The command, with a folder of its own."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        self._folder = folder
        self._env = {**os.environ, "LLM_USER_PATH": str(folder), "OPENAI_API_KEY": "any"}

    def knows(self, *models: str) -> None:
        """Write its file of models, each with tools and schemas."""
        rows = [
            {
                "model_id": model,
                "model_name": model,
                "api_base": self._world.base_url,
                "supports_schema": True,
                "supports_tools": True,
            }
            for model in models
        ]
        path = self._folder / "extra-openai-models.yaml"
        path.write_text(yaml.safe_dump(rows), encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Run it with a prompt; its output can be read."""
        command = [str(Path(sys.executable).with_name("llm")), "prompt", "Hello", *arguments]
        return subprocess.Popen(
            command,
            env=self._env,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Its exit code and what it wrote."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=TIMEOUT_S)
        return process.returncode, out, err


@pytest.fixture
def llm(world: World, tmp_path: Path) -> Llm:
    command = Llm(world, tmp_path)
    command.knows(ANSWERS, STRUCTURED, LIMITED, ENDLESS, UNKNOWN)
    return command


@pytest.mark.parametrize("arguments", [(), ("--no-stream",)], ids=["stream", "whole"])
def test_text(llm: Llm, arguments: tuple[str, ...]) -> None:
    code, out, err = llm.run("-m", ANSWERS, "--usage", *arguments)
    assert code == 0, err
    assert out.strip() == TEXT
    assert "output" in err


def test_tool_loop(llm: Llm, world: World) -> None:
    model = world.scripted(REPEATS_RESULTS, {"tools": 1})
    llm.knows(model)
    before = world.last_stream()
    code, out, err = llm.run("-m", model, "--functions", WEATHER, "--td")
    assert code == 0, err
    assert out.strip() == RESULT
    assert "weather" in err
    assert len(world.streams(before)) == 2


def test_structured_output(llm: Llm) -> None:
    code, out, err = llm.run("-m", STRUCTURED, "--schema", "city, days int")
    assert code == 0, err
    assert json.loads(out) == {"city": CITY, "days": DAYS}


@pytest.mark.parametrize(
    ("model", "told"), [(LIMITED, "429"), (UNKNOWN, UNKNOWN)], ids=["rate", "unknown"]
)
def test_errors(llm: Llm, world: World, model: str, told: str) -> None:
    before = world.last_stream()
    code, out, err = llm.run("-m", model)
    assert code != 0
    assert not out.strip()
    assert told in err
    assert "Traceback" not in err
    assert len(world.streams(before)) <= 1


def test_interrupt_stops_the_provider(llm: Llm, world: World) -> None:
    before = world.last_stream()
    with llm.start("-m", ENDLESS) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.terminate()
        world.abandoned(before)
