"""One turn of a voice agent with the SDK: the answer is cut as if the listener had spoken."""

import asyncio
import os
import sys

import rtrelay

ADDRESS = os.environ.get("RTRELAY_ADDRESS", "127.0.0.1:50051")


async def main() -> None:
    async with rtrelay.Client(ADDRESS, model="fast") as client, client.session() as session:
        heard = ""
        answer = session.start("Tell me a long story about a lighthouse.")
        async for event in answer:
            if isinstance(event, rtrelay.TextDelta):
                heard += event.text
            if len(heard) >= 80:
                break  # the barge-in: leaving the loop cancels the generation, and that alone
        print(f"{heard}\n[{(await answer.ended()).usage.completion_tokens} tokens were written]")
        print(await session.start(f"You were cut off after: {heard} How does it end?").text())


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except rtrelay.RelayError as error:
        sys.exit(f"no answer from the relay at {ADDRESS}: {error.message}")
