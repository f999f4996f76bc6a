"""The client where it will live: without the server, with either major version of protobuf, in a
process that forked after the import, over TLS."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
import rtrelay
from rtrelay.v1 import Delta, Outcome, Start, ToolCallDone
from rtrelay.v1 import Segment as SegmentFrame
from rtrelay.v1 import ToolCall as ToolCallMessage

from tests.fakes.fake_relay import FakeRelay, FakeStream, answers, begins, hangs, status_of
from tests.fakes.tls import CertAuthority

pytestmark = pytest.mark.sockets

CLIENT_DIR = Path(__file__).resolve().parents[2] / "clients" / "python"
INSTALL_TIMEOUT_S = 15.0

PROGRAM = """
import asyncio, importlib.util, sys
import google.protobuf
major, address = sys.argv[1:]
assert google.protobuf.__version__.startswith(f"{major}."), google.protobuf.__version__
for name in ("relay", "tests"):
    assert importlib.util.find_spec(name) is None, name
import rtrelay
import rtrelay.sync
from rtrelay.v1 import Message, Outcome, Part, Prompt, Role, Tool

async def main():
    async with rtrelay.Client(address, model="fast", labels={"a": "b"}) as client:
        async with client.session() as session:
            tool = Tool(name="f", parameters_json=b"{}")
            message = Message(role=Role.ROLE_USER, parts=[Part(text="Hi")])
            answer = session.start(Prompt(messages=[message], tools=[tool]))
            kinds = [type(event).__name__ async for event in answer]
            assert kinds == ["ReasoningDelta", "TextDelta", "ToolCall", "Segment"], kinds
            assert answer.end.usage.completion_tokens == 7
            cut = session.start({"messages": [{"role": "user", "content": "hang"}]})
            async for event in cut:
                break
            assert (await cut.ended()).outcome == Outcome.OUTCOME_CANCELLED
            try:
                await session.start(b'{"fail": true}').text()
            except rtrelay.RelayError as error:
                assert (error.reason, error.retry_after_s) == ("UPSTREAM_OVERLOADED", 1.5)
            else:
                raise AssertionError("it did not fail")

asyncio.run(main())
"""


@pytest.fixture
async def relay() -> AsyncIterator[FakeRelay]:
    async with FakeRelay() as running:
        yield running


@pytest.fixture(scope="session")
def protobuf_7(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with that version, which the server's own environment cannot have."""
    directory = tmp_path_factory.mktemp("protobuf7")
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--retries", "0", "--timeout", "5"]
    command += ["--target", str(directory), "protobuf>=7,<8"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"protobuf 7 could not be installed within {INSTALL_TIMEOUT_S:.0f} s")
    if done.returncode:
        pytest.skip(f"protobuf 7 cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return directory


async def runs(program: str, *arguments: str, path: list[Path], flags: list[str]) -> None:
    """Run a program to its end; what it writes to its standard error fails the test."""
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, *flags, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), 40)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, errors.decode()) == (0, "")


async def everything(stream: FakeStream, start: Start) -> None:
    """By what it is asked: a frame of each kind, silence after a word, or a failure."""
    name = start.generation_id
    if b"hang" in start.openai_chat_body:
        await begins("One")(stream, start)
    elif b"fail" in start.openai_chat_body:
        error = status_of(grpc.StatusCode.UNAVAILABLE, "UPSTREAM_OVERLOADED")
        stream.end(name, outcome=Outcome.OUTCOME_FAILED, error=error)
    else:
        await hangs(stream, start)
        stream.send(delta=Delta(generation_id=name, text="t", reasoning="r"))
        call = ToolCallMessage(call_id="c", name="f", arguments="{}")
        stream.send(tool_call=ToolCallDone(generation_id=name, call=call))
        stream.send(segment=SegmentFrame(generation_id=name, text="t", is_last=True))
        stream.end(name, usage={"completion_tokens": 7})


async def streams_with(relay: FakeRelay, major: str, *first: Path) -> None:
    """`-S` and `-P` leave out what the start-up adds to the path: the server among it."""
    relay.on_start = everything
    site = Path(sysconfig.get_paths()["purelib"])
    path = [*first, CLIENT_DIR, site]
    await runs(PROGRAM, major, relay.address, path=path, flags=["-S", "-P"])


async def test_with_protobuf_6_and_without_the_server(relay: FakeRelay) -> None:
    await streams_with(relay, "6")


async def test_with_protobuf_7_and_without_the_server(relay: FakeRelay, protobuf_7: Path) -> None:
    await streams_with(relay, "7", protobuf_7)


FORKS = """
import asyncio, os, sys, threading
import rtrelay, rtrelay.client, rtrelay.sync
client = rtrelay.Client(sys.argv[1], model="fast")
assert threading.active_count() == 1
if os.path.isdir("/proc/self/task"):
    assert len(os.listdir("/proc/self/task")) == 1, "gRPC has threads of its own"

async def main():
    async with client, client.session() as session:
        assert await session.start("Hi").text() == "Hello"

children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        asyncio.run(main())
        os._exit(0)
    children.append(child)
for child in children:
    assert os.waitpid(child, 0)[1] == 0
"""


async def test_processes_that_fork_after_the_import(relay: FakeRelay) -> None:
    """As the job runners of voice frameworks do; the client may even be made before."""
    relay.on_start = answers("Hel", "lo")
    await runs(FORKS, relay.address, path=[CLIENT_DIR], flags=[])
    assert len(relay.streams) == 2


# --- TLS ------------------------------------------------------------------------------------


async def test_over_tls(tmp_path: Path) -> None:
    authority = CertAuthority()
    root = Path(authority.ca_file(tmp_path)).read_bytes()
    trusting = grpc.ssl_channel_credentials(root_certificates=root)
    quick = rtrelay.Reconnect(give_up_s=0.5)
    async with FakeRelay(tls=authority) as relay:
        relay.on_start = answers("Hello")
        name = relay.address.replace("127.0.0.1", "localhost")
        for address in (relay.address, name):
            async with (
                rtrelay.Client(address, key="k", credentials=trusting) as client,
                client.session() as session,
            ):
                assert await session.start("Hi").text() == "Hello"
        assert ("authorization", "Bearer k") in relay.streams[0].context.invocation_metadata()
        stranger = grpc.ssl_channel_credentials(
            root_certificates=Path(CertAuthority().ca_file(tmp_path)).read_bytes()
        )
        for credentials in (stranger, None):
            async with rtrelay.Client(
                relay.address, key="k", credentials=credentials, reconnect=quick
            ) as client:
                with pytest.raises(rtrelay.RelayError) as caught:
                    await client.session().__aenter__()
                assert caught.value.code == grpc.StatusCode.UNAVAILABLE
        assert len(relay.streams) == 2, "no key goes to who cannot be trusted"
