"""Every fuzz target runs: a moment in `make test`, long in `make nightly` (`RELAY_FULL=1`).

Recordings are read in place as seeds where the corpus is present; what is found goes to a temporary
directory and is printed.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from relay.codecs.aws_event_stream import AwsEventParser
from relay.codecs.registry import BUILDERS
from relay.sse import SseParser
from tests.codecs import anthropic_text, converse_text
from tests.corpus.wires import WIRES
from tests.fuzz.frames import FRAMES

IS_LONG = os.environ.get("RELAY_FULL") == "1"
SECONDS = 600 if IS_LONG else 2

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris has no wheel for this machine or this Python",
)


TARGETS = [*sorted(BUILDERS), "bedrock_messages"]

CLAUDE = (
    anthropic_text.start()
    + anthropic_text.thinking(0, "s", "a")
    + anthropic_text.text(1, "a", "b")
    + anthropic_text.call(2, "t", "f", "{", "}")
    + anthropic_text.ending("tool_use", {"output_tokens": 1})
    + anthropic_text.STOP
)
NOVA = (
    converse_text.START
    + converse_text.reasoning(0, "s", "a")
    + converse_text.text(1, "a", "b")
    + converse_text.call(2, "t", "f", "{", "}")
    + converse_text.ending("tool_use")
    + converse_text.metadata()
)


def lines_of_frames() -> dict[str, bytes]:
    """Seeds of Bedrock, of which there are no recordings, as its targets take them."""
    claude = b"\n".join(b"\x03" + data for _, data in SseParser().feed(CLAUDE))
    nova = b"\n".join(
        bytes([FRAMES["bedrock_converse"].index(name) + 64]) + data
        for name, data in AwsEventParser().feed(NOVA)
    )
    return {"bedrock_messages": claude, "bedrock_converse": nova}


def seeds(wire: str, into: Path) -> None:
    """Link the bodies of the wire's cases there."""
    into.mkdir()
    if (lines := lines_of_frames().get(wire)) is not None:
        for at in range(8):  # a seed's checksum draws its status; blank lines say nothing
            (into / f"lines-{at}").write_bytes(lines + b"\n" * at)
        return
    for case in next(one for one in WIRES if one.name == wire).cases:
        (into / case.name.replace("/", "--")).symlink_to(case.body_path)


@pytest.mark.parametrize("wire", TARGETS)
@pytest.mark.timeout(SECONDS + 120)
def test_target_finds_nothing(wire: str, tmp_path: Path) -> None:
    seeds(wire, tmp_path / "seeds")
    (tmp_path / "found").mkdir()
    command = [sys.executable, "-m", "tests.fuzz.target", wire, f"-max_total_time={SECONDS}"]
    command += ["-max_len=16384", "-print_final_stats=1", f"-artifact_prefix={tmp_path}/"]
    if not IS_LONG:  # a change is to fail by what it changed; looking for news is for the night
        command.append("-seed=1")
    done = subprocess.run(
        [*command, str(tmp_path / "found"), str(tmp_path / "seeds")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-8000:]
    assert "number_of_executed_units" in done.stderr
