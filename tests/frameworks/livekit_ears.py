"""A caller for agent sessions: what the recogniser hears is what the test says."""

from __future__ import annotations

import asyncio

from livekit import rtc
from livekit.agents import stt
from livekit.agents.language import LanguageCode
from livekit.agents.types import (
    DEFAULT_API_CONNECT_OPTIONS,
    NOT_GIVEN,
    APIConnectOptions,
    NotGivenOr,
)
from livekit.agents.utils import AudioBuffer
from livekit.agents.voice import io


class Silence(io.AudioInput):
    """A microphone that never brings a frame."""

    def __init__(self) -> None:
        super().__init__(label="silence")

    async def __anext__(self) -> rtc.AudioFrame:
        await asyncio.Event().wait()
        raise StopAsyncIteration


class Ears(stt.STT[None]):
    """Recognises what it is told."""

    def __init__(self) -> None:
        super().__init__(capabilities=stt.STTCapabilities(streaming=True, interim_results=True))
        self._said: asyncio.Queue[stt.SpeechEvent] = asyncio.Queue()

    def begins(self) -> None:
        """The caller begins to speak."""
        self._put(stt.SpeechEventType.START_OF_SPEECH)

    def likely(self, text: str) -> None:
        """The recogniser is rather sure of the transcript: LiveKit may start to answer."""
        self._put(stt.SpeechEventType.PREFLIGHT_TRANSCRIPT, text)

    def ends(self, text: str) -> None:
        """The caller has finished, and this is what was said."""
        self._put(stt.SpeechEventType.FINAL_TRANSCRIPT, text)
        self._put(stt.SpeechEventType.END_OF_SPEECH)

    def _put(self, kind: stt.SpeechEventType, text: str = "") -> None:
        heard = [stt.SpeechData(LanguageCode("en"), text, confidence=0.9)] if text else []
        self._said.put_nowait(stt.SpeechEvent(kind, alternatives=heard))

    def stream(
        self,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions = DEFAULT_API_CONNECT_OPTIONS,
    ) -> stt.RecognizeStream:
        return _Hearing(self, self._said, conn_options)

    async def _recognize_impl(
        self,
        buffer: AudioBuffer,
        *,
        language: NotGivenOr[str] = NOT_GIVEN,
        conn_options: APIConnectOptions,
    ) -> stt.SpeechEvent:
        raise NotImplementedError


class _Hearing(stt.RecognizeStream):
    def __init__(
        self,
        ears: Ears,
        events: asyncio.Queue[stt.SpeechEvent],
        conn_options: APIConnectOptions,
    ) -> None:
        super().__init__(stt=ears, conn_options=conn_options)
        self._said = events

    async def _run(self) -> None:
        while True:
            self._event_ch.send_nowait(await self._said.get())
