"""A Pipecat LLM service over the relay: `RelayLLMService` in the place of `OpenAILLMService`.

    llm = RelayLLMService("127.0.0.1:50051", settings=RelayLLMService.Settings(model="fast"))

Install `rtrelay-client[pipecat]`. `docs/pipecat.md` of the package says what is mapped to what.
Importing it opens nothing; the connection is made when the pipeline is set up.
"""

from rtrelay.pipecat._versions import check_pipecat

check_pipecat()

from rtrelay.pipecat.service import RelayLLMService  # noqa: E402 - a clear message comes first
from rtrelay.pipecat.settings import RelayLLMSettings  # noqa: E402

__all__ = ["RelayLLMService", "RelayLLMSettings"]
