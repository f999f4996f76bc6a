"""`relay demo`: a scripted voice call through a real relay, and where its time went.

Everything is real but the models: the emulator runs as a process of its own and speaks the
providers' wire format over TLS and HTTP/2, the relay serves gRPC on a loopback port, and the agent
below holds one `Converse` session, as a voice agent does.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import grpc
from rich.console import Console
from rich.markup import escape
from rtrelay.v1 import (
    Cancel,
    CancelReason,
    ConverseRequest,
    ConverseResponse,
    End,
    Message,
    Part,
    Prompt,
    RelayServiceAsyncStub,
    RelayServiceStub,
    Role,
    Setup,
    Start,
)

from relay import __version__
from relay.commands import demo_outage
from relay.commands.timeline_view import own_time_us, print_end
from relay.config import Config, parse
from relay.emulated import start_emulator
from relay.planner import Planner
from relay.server import Worker
from relay.target_state import TargetStates


@dataclass(frozen=True, slots=True)
class Scene:
    """One turn of the call."""

    title: str
    caller: str
    model: str
    barge_in_after_chars: int | None = None


SCENES = (
    Scene("1. A turn", "Good morning! When do you open on Saturday?", "receptionist"),
    Scene(
        "2. The caller barges in",
        "And which doctors are there, please?",
        "talkative",
        barge_in_after_chars=60,
    ),
    Scene(
        "3. The provider hangs: the relay asks the next one within the same turn",
        "Just book me for nine o'clock.",
        "unlucky",
    ),
    Scene(
        "4. The provider is slow: a second one is asked beside it, and overtakes",
        "And remind me the evening before.",
        "sluggish",
    ),
)


MODELS: dict[str, dict[str, object]] = {
    "hours": {
        "ttft": "180",
        "itl": "18",
        "text": "We open at nine on Saturday, and the last appointment is at half past twelve.",
    },
    "doctors": {
        "ttft": "150",
        "itl": "25",
        "text": "There are four doctors in the practice. Doctor Amara is our paediatrician, Doctor"
        " Lindqvist looks after hearts, and Doctor Okafor has been with us since the house was"
        " built, which was in the spring of nineteen ninety-two, when the street was still a lane",
    },
    "hangs": {"fault": "hang"},
    "booking": {
        "ttft": "180",
        "itl": "18",
        "text": "Nine o'clock on Saturday is yours. I will send you a message the day before.",
    },
    "slow": {"ttft": "2600", "itl": "18", "text": "Certainly."},
    "reminder": {
        "ttft": "180",
        "itl": "18",
        "text": "I have put a reminder down for Friday at six in the evening.",
    },
    **demo_outage.MODELS,
}
"""How the emulated models behave: latencies of a quick hosted model, and what they say."""


def _config(tls_port: int, ca_file: str) -> Config:
    row = {
        "wire": "openai_chat",
        "base_url": f"https://127.0.0.1:{tls_port}/v1",
        "ca_file": ca_file,
        "auth": "none",
    }
    providers = ("north", "south")

    def alias(*models: str, hedge_ms: int | None = None) -> dict[str, object]:
        hedge = {} if hedge_ms is None else {"hedge": {"mode": "active", "delay": hedge_ms}}
        return {
            **hedge,
            "candidates": [
                {"provider": provider, "model": model}
                for provider, model in zip(providers, models, strict=False)
            ],
            "timeouts": {"first_token_ms": 600 if hedge_ms is None else 4000},
        }

    return parse(
        {
            "server": {
                "grpc": {"address": "127.0.0.1:0", "reflection": True},
                "http": {"address": "127.0.0.1:0"},
                "admin": {"address": "127.0.0.1:0"},
            },
            "providers": {"north": row, "south": row},
            "models": {
                "receptionist": alias("hours"),
                "talkative": alias("doctors"),
                "unlucky": alias("hangs", "booking"),
                "sluggish": alias("slow", "reminder", hedge_ms=400),
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
    """
    emulator = await start_emulator(MODELS)
    try:
        worker = Worker(_config(emulator.tls_port, emulator.ca_file))
        try:
            await worker.start()
            console.print(
                f"emulator on port {emulator.tls_port}, relay on port {worker.grpc_port},"
                " warm connections open\n",
                highlight=False,
            )
            async with grpc.aio.insecure_channel(f"127.0.0.1:{worker.grpc_port}") as channel:
                agent = _Agent(RelayServiceStub(channel), console)
                await agent.open()
                ends = []
                for number, scene in enumerate(SCENES, 1):
                    end = await agent.play(scene, f"g{number}")
                    print_end(console, end)
                    console.print()
                    ends.append(end)
                await agent.close()
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


class _Agent:
    """A voice agent: one session, the conversation so far, a barge-in when the scene says so."""

    def __init__(self, stub: RelayServiceAsyncStub, console: Console) -> None:
        self._call = stub.Converse()
        self._console = console
        self._history: list[Message] = []

    async def open(self) -> None:
        setup = Setup(client_name="relay demo", client_version=__version__)
        await self._call.write(ConverseRequest(setup=setup))
        await self._read()

    async def close(self) -> None:
        await self._call.done_writing()
        await self._call.code()

    async def _read(self) -> ConverseResponse:
        frame = await self._call.read()
        if not isinstance(frame, ConverseResponse):
            raise TypeError("the relay ended the session early")
        return frame

    async def play(self, scene: Scene, generation_id: str) -> End:
        """One turn; returns its end."""
        console = self._console
        console.print(f"[bold]{escape(scene.title)}[/bold]")
        console.print(f"  caller: {escape(scene.caller)}", highlight=False)
        self._history.append(_says(Role.ROLE_USER, scene.caller))
        prompt = Prompt(messages=self._history)
        start = Start(generation_id=generation_id, model=scene.model, prompt=prompt)
        await self._call.write(ConverseRequest(start=start))
        console.print("  agent:  ", end="")
        heard, stopped_s = "", 0.0
        while True:
            frame = await self._read()
            kind = frame.WhichOneof("frame")
            if kind == "delta":
                heard += frame.delta.text
                console.print(escape(frame.delta.text), end="", highlight=False, soft_wrap=True)
                limit = scene.barge_in_after_chars
                if limit is not None and len(heard) >= limit and not stopped_s:
                    stopped_s = time.monotonic()
                    await self._barge_in(generation_id)
            elif kind == "end":
                break
        if stopped_s:
            took_ms = (time.monotonic() - stopped_s) * 1000
            console.print(
                f"\n  [red]\\[barge-in: the provider's stream was reset and the end came"
                f" {took_ms:.1f} ms later][/red]",
                end="",
                highlight=False,
            )
        console.print()
        self._history.append(_says(Role.ROLE_ASSISTANT, heard))
        return frame.end

    async def _barge_in(self, generation_id: str) -> None:
        cancel = Cancel(generation_id=generation_id, reason=CancelReason.CANCEL_REASON_BARGE_IN)
        await self._call.write(ConverseRequest(cancel=cancel))


def _says(role: Role.ValueType, text: str) -> Message:
    return Message(role=role, parts=[Part(text=text)])
