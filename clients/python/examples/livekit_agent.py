"""An agent of LiveKit's with a tool, in text: no room, no sound, answers from a relay.

python livekit_agent.py "What is the weather in Paris?"
"""

import asyncio
import os
import sys

from livekit.agents import Agent, AgentSession, APIError, function_tool
from rtrelay import livekit as rtrelay_livekit

ADDRESS = os.environ.get("RTRELAY_ADDRESS", "127.0.0.1:50051")
MODEL = os.environ.get("RTRELAY_MODEL", "fast")


class Weatherman(Agent):
    def __init__(self) -> None:
        super().__init__(instructions="You tell the weather, in one sentence.")

    @function_tool
    async def get_weather(self, city: str) -> str:
        """The weather of a city."""
        return f"It is sunny in {city}."


def show(event: rtrelay_livekit.GenerationEnded) -> None:
    end = event.end
    print(f"[{end.provider} {end.model}, {end.usage.total_tokens} tokens]")


async def main(question: str) -> None:
    async with (
        rtrelay_livekit.LLM(ADDRESS, model=MODEL) as model,
        AgentSession(llm=model, vad=None) as session,
    ):
        model.on("generation_ended", show)
        await session.start(Weatherman(), record=False)
        await session.run(user_input=question)
        for item in session.history.items:
            if item.type == "message" and item.role == "assistant":
                print(item.text_content)


if __name__ == "__main__":
    try:
        asyncio.run(main(" ".join(sys.argv[1:]) or "What is the weather in Paris?"))
    except APIError as error:
        sys.exit(f"no answer from the relay at {ADDRESS}: {error}")
