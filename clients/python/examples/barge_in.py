"""A session with a barge-in: start, cancel in the middle of the answer, start anew.

One stream carries it all. The answer is cut when 80 characters have come, as if the listener had
spoken; the next prompt holds of it exactly what was heard.
"""

import asyncio
import os
import sys

import grpc.aio
from rtrelay.v1 import (
    Cancel,
    CancelReason,
    ConverseRequest,
    Message,
    Outcome,
    Part,
    Prompt,
    RelayServiceStub,
    Role,
    Setup,
    Start,
)

ADDRESS = os.environ.get("RTRELAY_ADDRESS", "127.0.0.1:50051")
CHANNEL_OPTIONS = [
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
HEARD_CHARS = 80


def say(role: Role.ValueType, text: str) -> Message:
    """A plain text message."""
    return Message(role=role, parts=[Part(text=text)])


def start(generation_id: str, *messages: Message) -> ConverseRequest:
    """A frame that starts a generation on the full context given."""
    prompt = Prompt(messages=messages)
    return ConverseRequest(start=Start(generation_id=generation_id, prompt=prompt))


async def main() -> None:
    """Run the conversation and print it."""
    question = say(Role.ROLE_USER, "Tell me a long story about a lighthouse.")
    heard = ""
    is_cancelled = False
    async with grpc.aio.insecure_channel(ADDRESS, options=CHANNEL_OPTIONS) as channel:
        call = RelayServiceStub(channel).Converse()
        setup = Setup(client_name="barge_in.py", model="fast")
        await call.write(ConverseRequest(setup=setup))
        await call.write(start("g1", question))
        async for frame in call:
            if frame.HasField("delta"):
                if frame.delta.generation_id == "g1":
                    if is_cancelled:
                        continue  # was on its way when we cancelled; nobody heard it
                    heard += frame.delta.text
                print(frame.delta.text, end="", flush=True)
                if len(heard) >= HEARD_CHARS and not is_cancelled:
                    is_cancelled = True
                    cancel = Cancel(generation_id="g1", reason=CancelReason.CANCEL_REASON_BARGE_IN)
                    await call.write(ConverseRequest(cancel=cancel))
            elif frame.HasField("end"):
                end = frame.end
                outcome = Outcome.Name(end.outcome)
                print(f"\n[{end.generation_id}: {outcome}, {end.timeline.wall_us} us]")
                if end.outcome == Outcome.OUTCOME_FAILED:
                    print(f"[{end.error.message}]")
                if end.generation_id == "g1":
                    answer = say(Role.ROLE_ASSISTANT, heard)
                    again = say(Role.ROLE_USER, "Sorry, just tell me how it ends.")
                    await call.write(start("g2", question, answer, again))
                else:
                    await call.done_writing()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except grpc.aio.AioRpcError as error:
        sys.exit(f"the session with the relay at {ADDRESS} is over: {error.details()}")
