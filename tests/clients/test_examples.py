"""The examples of the client package: shown as they are, and importable."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

CLIENT_DIR = Path(__file__).resolve().parents[2] / "clients" / "python"
EXAMPLES = sorted((CLIENT_DIR / "examples").glob("*.py"))
OF_FRAMEWORKS = ("pipecat", "livekit")
"""What examples for these need is not installed here; `tests/frameworks` runs them."""
PLAIN = [path for path in EXAMPLES if not path.stem.startswith(OF_FRAMEWORKS)]


def test_readme_shows_the_example_as_it_is() -> None:
    readme = (CLIENT_DIR / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL)
    assert blocks[0] == (CLIENT_DIR / "examples" / "stream.py").read_text(encoding="utf-8")


def test_readme_names_every_example() -> None:
    readme = (CLIENT_DIR / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES if f"examples/{path.name}" not in readme] == []


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_example_imports_without_running(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert asyncio.iscoroutinefunction(module.main)


@pytest.mark.sockets
@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
async def test_without_a_relay_an_example_says_so(path: Path, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(path),
        env={**os.environ, "RTRELAY_ADDRESS": address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), 20)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, output) == (1, b"")
    (line,) = errors.decode().splitlines()
    assert f"the relay at {address}" in line
    assert "Connection refused" in line


def test_client_package_needs_no_server() -> None:
    always = [line for line in requires("rtrelay-client") or [] if "extra ==" not in line]
    needed = {re.split(r"[<>=!~ ;\[]", line)[0] for line in always}
    assert needed == {"grpcio", "googleapis-common-protos", "protobuf"}
