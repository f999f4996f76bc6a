"""`relay demo`: a scripted voice call through a real relay, and where its time went.

Everything is real but the people and the models: the emulator runs as a process of its own and
speaks the providers' wire format over TLS and HTTP/2, the relay serves gRPC on a loopback port, and
the agent holds one session by the Python SDK, as a voice agent does. What caller and agent say is
spoken by the clock.
"""

from __future__ import annotations

import asyncio
import ssl
import textwrap

import httpx2
from rich.console import Console
from rich.markup import escape
from rtrelay import Client
from rtrelay.v1 import End

from relay import __version__
from relay.calls.agent import play
from relay.calls.record import TurnRecord
from relay.calls.script import Turn
from relay.calls.session_line import SessionLine
from relay.calls.turn import Setting
from relay.commands import demo_call, demo_outage
from relay.commands.call_view import LEGEND, WIDTH, Stream, facts, picture, stream_of
from relay.commands.demo_call import FIRST_TOKEN_MS, NORTH, SCENES, SOUTH, DemoStage, Scene
from relay.commands.timeline_view import own_time_us, print_end
from relay.config import Config, parse
from relay.emulated import start_emulator
from relay.planner import Planner
from relay.server import Worker
from relay.target_state import TargetStates

_SETTLE_S = 2.0
"""For the provider to notice that its streams are over."""


def _config(tls_port: int, ca_file: str) -> Config:
    row = {
        "wire": "openai_chat",
        "base_url": f"https://127.0.0.1:{tls_port}/v1",
        "ca_file": ca_file,
        "auth": "none",
    }

    def alias(*models: str, hedge_ms: int | None = None) -> dict[str, object]:
        hedge = {} if hedge_ms is None else {"hedge": {"mode": "active", "delay": hedge_ms}}
        return {
            **hedge,
            "candidates": [
                {"provider": provider, "model": model}
                for provider, model in zip((NORTH, SOUTH), models, strict=False)
            ],
            "timeouts": {"first_token_ms": FIRST_TOKEN_MS if hedge_ms is None else 4000},
        }

    aliases = {scene.alias: alias(*scene.models, hedge_ms=scene.hedge_ms) for scene in SCENES}
    return parse(
        {
            "server": {
                "grpc": {"address": "127.0.0.1:0", "reflection": True},
                "http": {"address": "127.0.0.1:0"},
                "admin": {"address": "127.0.0.1:0"},
            },
            "providers": {NORTH: row, SOUTH: row},
            "models": {
                **aliases,
                demo_outage.ALIAS: alias(
                    demo_outage.MODEL_OF_FIRST, demo_outage.MODEL_OF_SECOND, hedge_ms=1000
                ),
            },
        }
    )


async def demo(console: Console) -> int:
    """Run the call; returns an exit status.

    Raises:
        ConfigError, StartError: the emulator or the relay did not come up.
        httpx2.HTTPError, RelayError: one of them is gone.
    """
    emulator = await start_emulator({**demo_call.models(), **demo_outage.MODELS})
    try:
        worker = Worker(_config(emulator.tls_port, emulator.ca_file))
        try:
            await worker.start()
            console.print(
                f"emulator on port {emulator.tls_port}, relay on port {worker.grpc_port},"
                f" warm connections open\n{LEGEND}\n",
                highlight=False,
            )
            ends = await _call(console, worker.grpc_port, emulator.tls_port, emulator.ca_file)
            services = worker.services
            states = TargetStates(breaker=demo_outage.QUICK_BREAKER)
            services.planner = Planner(states, services.clock)
            await demo_outage.play(console, worker.grpc_port, emulator.tls_port, emulator.ca_file)
            console.print()
        finally:
            await worker.aclose()
    finally:
        await emulator.aclose()
    own_ms = sorted(own_time_us(end) / 1000 for end in ends)
    legend = ""
    if console.color_system is not None and not console.no_color:
        legend = " (cyan above; magenta is the provider thinking, green its answer)"
    console.print(
        f"[bold]the relay's own time before the first word:[/bold] {own_ms[0]:.2f} to"
        f" {own_ms[-1]:.2f} ms a turn{legend}",
        highlight=False,
    )
    return 0


async def _call(console: Console, grpc_port: int, tls_port: int, ca_file: str) -> list[End]:
    """Play the call, and show each turn when it is over; the ends of its answers."""
    ends: list[End] = []
    async with (
        httpx2.AsyncClient(
            base_url=f"https://127.0.0.1:{tls_port}",
            verify=ssl.create_default_context(cafile=ca_file),
            trust_env=False,
        ) as emulator,
        Client(
            f"127.0.0.1:{grpc_port}", client_name="relay demo", client_version=__version__
        ) as client,
        client.session() as session,
    ):

        async def show(turn: Turn, record: TurnRecord) -> None:
            scene = next(scene for scene in SCENES if scene.turn is turn)
            _show(console, scene, record, await _streams(emulator, record))
            answer = record.answer
            if answer is not None and answer.end is not None:
                print_end(console, answer.end.detail)
                ends.append(answer.end.detail)
            console.print()

        setting = Setting(SessionLine(session), DemoStage())
        await play(demo_call.CALL, setting, on_turn=show)
    return ends


def _show(console: Console, scene: Scene, record: TurnRecord, streams: list[Stream]) -> None:
    width = min(WIDTH, console.width)
    console.print(f"[bold]{escape(scene.title)}[/bold]")
    cut = " …" if record.barge_in_ns else ""
    for who, text in (("caller: ", scene.turn.says), ("agent:  ", record.heard.strip() + cut)):
        _print_wrapped(console, text, f"  {who}")
    for line in picture(record, streams, width):
        console.print(line, highlight=False, soft_wrap=True)
    for fact in facts(record, streams):
        _print_wrapped(console, fact, "  ")


def _print_wrapped(console: Console, text: str, first: str) -> None:
    """With what does not fit below its own beginning."""
    indent = " " * len(first)
    lines = textwrap.wrap(
        text, max(20, console.width - 1), initial_indent=first, subsequent_indent=indent
    )
    console.print("\n".join(lines), markup=False, highlight=False)


async def _streams(emulator: httpx2.AsyncClient, record: TurnRecord) -> list[Stream]:
    """What the providers saw of the turn, once they know that it is over."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _SETTLE_S
    while True:
        answer = await emulator.get("/emulator/streams")
        rows = answer.raise_for_status().json()["streams"]
        own = [row for row in rows if row["start_ns"] >= record.speech_from_ns]
        if all(row["end_ns"] for row in own) or loop.time() > deadline_s:
            break
        await asyncio.sleep(0.02)
    return [stream_of(row, demo_call.provider_of(row["model"])) for row in own if row["end_ns"]]
