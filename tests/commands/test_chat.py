"""`relay chat`: one-shot, through a pipe and at a terminal, in front of a scripted provider."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from relay.commands import chat
from relay.commands.client_tls import ClientTls
from tests.fakes.command import CTRL_C, CTRL_D, Terminal, relay_command
from tests.fakes.h2_server import CANCEL, H2Server, ServerStream, in_turn, stream_chunks
from tests.fakes.keyed_relay import keyed_relay
from tests.fakes.relay_under_test import (
    RelayUnderTest,
    answer_chunks,
    chunk,
    provider,
    relay_under_test,
)
from tests.fakes.tls_files import TlsFiles
from tests.fakes.tls_relay import TlsRelay, tls_relay

pytestmark = pytest.mark.sockets

CHAT = "/v1/chat/completions"
SAYS_ONE = stream_chunks(answer_chunks("One", " moment."))
STOPS_AFTER_ONE = stream_chunks([chunk({"content": "One"})], end=False)


@pytest.fixture
async def upstream() -> AsyncIterator[H2Server]:
    async with H2Server() as server:
        server.routes[CHAT] = SAYS_ONE
        yield server


@pytest.fixture
async def relay(upstream: H2Server) -> AsyncIterator[RelayUnderTest]:
    document = {
        "providers": {"lab": provider(upstream.url, http="h2")},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    async with relay_under_test(document) as running:
        yield running


def at(relay: RelayUnderTest) -> tuple[str, str, str]:
    return "chat", "--address", f"127.0.0.1:{relay.worker.grpc_port}"


def messages(stream: ServerStream) -> list[tuple[str, str]]:
    """Who said what, as the provider was told."""
    told: list[dict[str, Any]] = orjson.loads(stream.body)["messages"]
    return [(message["role"], message["content"]) for message in told]


# --- one message ----------------------------------------------------------------------------


async def test_one_message(relay: RelayUnderTest, upstream: H2Server) -> None:
    ran = await relay_command(*at(relay), "-m", "Hello [all]")
    assert (ran.status, ran.errors) == (0, "")
    answer, _, account = ran.output.partition("\n")
    assert answer == "One moment."
    assert "completed after" in account
    assert "response_headers" in account
    assert [messages(stream) for stream in upstream.requests(CHAT)] == [[("user", "Hello [all]")]]


async def test_one_message_without_its_timeline(relay: RelayUnderTest) -> None:
    ran = await relay_command(*at(relay), "--message", "Hello", "--no-timeline")
    assert (ran.status, ran.output, ran.errors) == (0, "One moment.\n", "")


async def test_failure_is_shown_and_is_the_exit_status(relay: RelayUnderTest) -> None:
    ran = await relay_command(*at(relay), "-m", "Hello", "--model", "fats")
    assert ran.status == 1
    failed, why = ran.output.splitlines()[:2]
    assert re.fullmatch(r"  failed after [\d.]+ ms", failed), "nobody answered, nothing to count"
    assert "unknown model 'fats'" in why
    assert "fast" in ran.output, "the nearest name"
    assert "Traceback" not in ran.output + ran.errors


# --- a conversation -------------------------------------------------------------------------


async def test_lines_of_a_pipe_are_one_conversation(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    ran = await relay_command(*at(relay), stdin="Hello\n\n  \nAnd now?\n")
    assert (ran.status, ran.errors) == (0, "")
    assert ran.output.count("One moment.") == 2
    assert [messages(stream) for stream in upstream.requests(CHAT)] == [
        [("user", "Hello")],
        [("user", "Hello"), ("assistant", "One moment."), ("user", "And now?")],
    ]


async def test_ctrl_c_interrupts_the_answer_and_keeps_the_conversation(
    relay: RelayUnderTest, upstream: H2Server
) -> None:
    upstream.routes[CHAT] = in_turn(STOPS_AFTER_ONE, SAYS_ONE)
    async with Terminal(*at(relay)) as terminal:
        await terminal.shows("you>")
        terminal.types("Hello\n")
        await terminal.shows("One")
        terminal.types(CTRL_C)
        await terminal.shows("cancelled")
        stream = await upstream.request(CHAT)
        await upstream.until(lambda: stream.reset_code is not None)
        assert stream.reset_code == CANCEL
        await terminal.shows("you>")
        terminal.types("And now?\n")
        await terminal.shows("One moment.")
        await terminal.shows("completed")
        await terminal.shows("you>")
        terminal.types(CTRL_D)
        assert await terminal.exited() == 0
    # What was heard before the interruption belongs to the conversation.
    assert messages(upstream.requests(CHAT)[1]) == [
        ("user", "Hello"),
        ("assistant", "One"),
        ("user", "And now?"),
    ]


async def test_ctrl_c_at_the_prompt_leaves(relay: RelayUnderTest) -> None:
    async with Terminal(*at(relay)) as terminal:
        await terminal.shows("you>")
        terminal.types("Hello\n")
        await terminal.shows("completed")
        await terminal.shows("you>")
        terminal.types(CTRL_C)
        assert await terminal.exited() == 130
    assert "Traceback" not in terminal.screen
    assert terminal.screen.endswith("\n"), "the shell's prompt has a line of its own"


# --- no relay -------------------------------------------------------------------------------


async def test_no_relay_is_said_so(unused_tcp_port: int) -> None:
    ran = await relay_command("chat", "-m", "Hello", "--address", f"127.0.0.1:{unused_tcp_port}")
    assert (ran.status, ran.output) == (1, "")
    assert ran.errors == (
        f"relay: no relay answers at 127.0.0.1:{unused_tcp_port}; is `make run` up?"
        " A relay with TLS takes --tls or --ca-file\n"
    )


@pytest.mark.parametrize("when", ["waiting", "answering"])
async def test_relay_that_goes_is_said_so(
    relay: RelayUnderTest, upstream: H2Server, when: str
) -> None:
    upstream.routes[CHAT] = STOPS_AFTER_ONE if when == "answering" else SAYS_ONE
    async with Terminal(*at(relay)) as terminal:
        await terminal.shows("you>")
        terminal.types("Hello\n")
        await terminal.shows("One")
        if when == "waiting":
            await terminal.shows("you>")
        await relay.worker.aclose()
        if when == "waiting":
            terminal.types("And now?\n")
        assert await terminal.exited() == 1
    last = terminal.screen.rstrip().splitlines()[-1]
    assert "relay:" in last
    assert f"the relay at {at(relay)[-1]} is gone" in last
    assert "Traceback" not in terminal.screen


# --- over TLS -------------------------------------------------------------------------------


@pytest.fixture
async def mutual(upstream: H2Server, tmp_path: Path) -> AsyncIterator[TlsRelay]:
    document = {
        "providers": {"lab": provider(upstream.url, http="h2")},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    files = TlsFiles(tmp_path)
    async with tls_relay(files, files.settings(clients="required"), document) as running:
        yield running


async def test_over_tls_with_a_certificate(mutual: TlsRelay) -> None:
    client = mutual.files.client("person")
    ran = await relay_command(
        *("chat", "--address", f"localhost:{mutual.port('grpc')}", "-m", "Hello", "--no-timeline"),
        *("--ca-file", mutual.files.ca_file),
        *("--cert-file", client.cert_file, "--key-file", client.key_file),
    )
    assert (ran.status, ran.output, ran.errors) == (0, "One moment.\n", "")


async def test_relay_that_is_not_trusted_is_told(
    mutual: TlsRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat, "CONNECT_TIMEOUT_S", 0.3)
    address = f"127.0.0.1:{mutual.port('grpc')}"
    other = ClientTls(ca_file=mutual.files.folder / "clients.pem")
    with pytest.raises(chat.ChatError, match=r"over TLS: .*CERTIFICATE_VERIFY_FAILED"):
        await chat.chat(Console(), address, "fast", "Hello", with_timeline=False, tls=other)
    with pytest.raises(chat.ChatError, match="takes --tls or --ca-file"):
        await chat.chat(Console(), address, "fast", "Hello", with_timeline=False)


@pytest.mark.parametrize(
    ("tls", "said"),
    [
        (ClientTls(cert_file=Path("a.pem")), "--cert-file and --key-file go together"),
        (ClientTls(ca_file=Path("/nowhere/ca.pem")), "--ca-file: cannot read /nowhere/ca.pem"),
    ],
)
async def test_wrong_options_are_named(tls: ClientTls, said: str) -> None:
    with pytest.raises(chat.ChatError, match=said):
        await chat.chat(Console(), "127.0.0.1:1", "fast", "x", with_timeline=False, tls=tls)


# --- keys -----------------------------------------------------------------------------------


async def test_key_comes_from_the_environment(upstream: H2Server, tmp_path: Path) -> None:
    document = {
        "providers": {"lab": provider(upstream.url, http="h2")},
        "models": {"fast": {"candidates": [{"provider": "lab", "model": "m"}]}},
    }
    screen = io.StringIO()
    async with keyed_relay(tmp_path, document) as running:
        address = f"127.0.0.1:{running.relay.worker.grpc_port}"
        key = await running.key()
        with pytest.raises(chat.ChatError, match=r"^a key is needed.*RTRELAY_KEY"):
            await chat.chat(
                Console(), address, "fast", "Hello", with_timeline=False, environment={}
            )
        status = await chat.chat(
            *(Console(file=screen), address, "fast", "Hello"),
            with_timeline=False,
            environment={"RTRELAY_KEY": f"{key}\n"},
        )
    assert (status, screen.getvalue()) == (0, "One moment.\n")


async def test_key_that_cannot_be_sent_is_told_and_not_shown() -> None:
    with pytest.raises(chat.ChatError, match=r"^RTRELAY_KEY: it has characters") as caught:
        await chat.chat(
            *(Console(), "127.0.0.1:1", "fast", "x"),
            with_timeline=False,
            environment={"RTRELAY_KEY": "rtk_se\ncret"},
        )
    assert "cret" not in str(caught.value)
