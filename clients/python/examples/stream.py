"""Ask one question, print the answer as it comes, then its cost in tokens and in time."""

import asyncio
import os
import sys

import grpc.aio
from rtrelay.v1 import GenerateRequest, Message, Part, Prompt, RelayServiceStub, Role, Start

ADDRESS = os.environ.get("RTRELAY_ADDRESS", "127.0.0.1:50051")


async def main() -> None:
    question = Message(role=Role.ROLE_USER, parts=[Part(text="Why is the sky blue?")])
    request = GenerateRequest(start=Start(model="fast", prompt=Prompt(messages=[question])))
    async with grpc.aio.insecure_channel(ADDRESS) as channel:
        async for frame in RelayServiceStub(channel).Generate(request):
            print(frame.delta.text, end="", flush=True)  # empty unless the frame is a delta
            if frame.HasField("end"):
                print(f"\n\n{frame.end.provider} {frame.end.model}")
                print(f"usage\n{frame.end.usage}\ntimeline\n{frame.end.timeline}")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except grpc.aio.AioRpcError as error:
        sys.exit(f"no answer from the relay at {ADDRESS}: {error.details()}")
