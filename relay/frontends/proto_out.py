"""Stream events and ends to `rtrelay.v1` frames; one encoder a generation.

A batch becomes as few frames as order allows: pieces of one choice merge into one `Delta`, a
complete tool call stands alone after what came before it. The encoder counts code points, so that
every delta says where its text begins.

`ConverseResponse` and `GenerateResponse` share their field numbers: the bytes made here are both.
"""

from __future__ import annotations

import binascii
import math
import re
from collections.abc import Sequence

import orjson
from rtrelay.v1 import content_pb2 as content_pb
from rtrelay.v1 import relay_pb2 as relay_pb

from relay.content import (
    AudioDelta,
    ChoiceFinished,
    Events,
    OpaqueDelta,
    ReasoningDelta,
    RefusalDelta,
    StreamEvent,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallDone,
    ToolCallStart,
    Usage,
)
from relay.decision import Decision
from relay.errors import ClientCancelled, RelayError
from relay.frontends.grpc_status import to_status
from relay.frontends.segment_frames import SegmentFrames
from relay.generation import Generation
from relay.outcome import AttemptOutcome, AttemptRole, GenerationEnd, HedgeRecord

_Response = relay_pb.ConverseResponse
_SEGMENTED = (relay_pb.TEXT_MODE_SEGMENTS, relay_pb.TEXT_MODE_DELTAS_AND_SEGMENTS)
_Delta = relay_pb.Delta
_TOOL_CALL = (ToolCallStart, ToolCallDone)


class FrameEncoder:
    """Frames of one generation."""

    def __init__(
        self,
        generation_id: str,
        request_id: str,
        turn_id: str,
        output: relay_pb.OutputOptions,
    ) -> None:
        """
        Args:
            generation_id: the client's, in every frame.
            request_id: the relay's own, for its logs.
            output: which kinds of output the client asked for.
        """
        self._id = generation_id
        self._request_id = request_id
        self._turn_id = turn_id
        self._wants_reasoning = output.reasoning
        self._wants_arguments = output.tool_arguments
        self._wants_extras = output.extras
        self._wants_phases = output.attempt_phases
        self._segments = SegmentFrames(generation_id) if output.text_mode in _SEGMENTED else None
        self._wants_text = output.text_mode != relay_pb.TEXT_MODE_SEGMENTS
        self._chars: dict[int, int] = {}
        """Text sent so far of each choice that began."""
        self._sounds: dict[int, _Base64] = {}
        # The frame of a plain piece of text, made once: filling it in costs a quarter of making it.
        self._text_frame = _Response()
        self._text_delta = self._text_frame.delta
        self._text_delta.generation_id = generation_id

    def started(self) -> bytes:
        """The start was accepted."""
        return _Response(
            started=relay_pb.Started(generation_id=self._id, request_id=self._request_id)
        ).SerializeToString()

    def output(self, events: Events) -> Sequence[bytes]:
        """The frames of some events, in order."""
        if self._segments is not None:
            return self._segmented(self._segments, events)
        return self._frames(events)

    def _segmented(self, segments: SegmentFrames, events: Events) -> Sequence[bytes]:
        """Deltas, and after them the segments that they complete; before a tool call the text that
        was said before it."""
        frames: list[bytes] = []
        began = 0
        for at, event in enumerate(events):
            if isinstance(event, _TOOL_CALL):
                frames += self._with_segments(segments, events[began:at])
                frames += segments.break_off(event.choice)
                began = at
        return [*frames, *self._with_segments(segments, events[began:] if began else events)]

    def _with_segments(self, segments: SegmentFrames, events: Events) -> Sequence[bytes]:
        frames: list[bytes] = []
        shown = events
        if not self._wants_text:
            shown = [event for event in events if type(event) is not TextDelta]
            for event in events:
                if type(event) is TextDelta:
                    self._chars[event.choice] = self._chars.get(event.choice, 0) + len(event.text)
        if shown:
            frames += self._frames(shown)
        ended: list[bytes] = []
        for event in events:
            if type(event) is TextDelta:
                ended += segments.feed(event.choice, event.text)
            elif type(event) is ChoiceFinished:
                if event.is_withdrawn:
                    segments.withdraw(event.choice)
                ended += segments.finish(event.choice)
        return [*frames, *ended]

    def _frames(self, events: Events) -> Sequence[bytes]:
        first = events[0]
        if type(first) is TextDelta:
            if len(events) == 1:
                return (self._text(first.text, first.choice),)
            texts = _plain_texts(events, first.choice)
            if texts is not None:
                return (self._text("".join(texts), first.choice),)
        frames: list[bytes] = []
        delta: relay_pb.Delta | None = None
        texts = []
        finished: list[int] = []
        for event in events:
            choice: int = getattr(event, "choice", 0)
            if delta is not None and (delta.choice != choice or isinstance(event, ToolCallDone)):
                frames.append(self._seal(delta, texts))
                delta = None
            if isinstance(event, ToolCallDone):
                frames.append(self._tool_call(event))
            elif self._is_wanted(event):
                if delta is None:
                    delta = _Delta(generation_id=self._id, choice=choice)
                    texts = []
                if isinstance(event, AudioDelta):
                    self._add_sound(delta, event)
                else:
                    _add(delta, texts, event)
            elif isinstance(event, ChoiceFinished) and choice in self._sounds:
                finished.append(choice)
        if delta is not None:
            frames.append(self._seal(delta, texts))
        for choice in finished:  # after all that came with the finish: it may hold more sound
            if rest := self._sounds[choice].end():
                delta = _Delta(generation_id=self._id, choice=choice)
                delta.audio.data = rest
                frames.append(self._seal(delta, []))
        return frames

    def _text(self, text: str, choice: int) -> bytes:
        offset = self._chars.get(choice, 0)
        self._chars[choice] = offset + len(text)
        delta = self._text_delta
        delta.text = text
        delta.char_offset = offset
        delta.choice = choice
        return self._text_frame.SerializeToString()

    def _seal(self, delta: relay_pb.Delta, texts: list[str]) -> bytes:
        offset = self._chars.get(delta.choice, 0)
        delta.text = text = "".join(texts)
        self._chars[delta.choice] = offset + len(text)
        delta.char_offset = offset
        return _Response(delta=delta).SerializeToString()

    def _is_wanted(self, event: StreamEvent) -> bool:
        if isinstance(event, TextDelta | RefusalDelta | AudioDelta):
            return True
        if isinstance(event, ReasoningDelta):
            return self._wants_reasoning
        if isinstance(event, ToolCallStart | ToolArgumentsDelta):
            return self._wants_arguments
        return isinstance(event, OpaqueDelta) and self._wants_extras

    def _add_sound(self, delta: relay_pb.Delta, event: AudioDelta) -> None:
        audio = delta.audio
        audio.audio_id = audio.audio_id or event.audio_id
        audio.data += self._sounds.setdefault(event.choice, _Base64()).decode(event.data_base64)
        audio.transcript += event.transcript
        if 0 < event.expires_at_s < 1 << 63:
            audio.expires_at_s = event.expires_at_s

    def _tool_call(self, event: ToolCallDone) -> bytes:
        self._chars.setdefault(event.choice, 0)
        return _Response(
            tool_call=relay_pb.ToolCallDone(
                generation_id=self._id,
                choice=event.choice,
                index=event.index,
                call=content_pb.ToolCall(
                    call_id=event.call_id,
                    name=event.name,
                    arguments=event.arguments,
                    kind=content_pb.TOOL_KIND_CUSTOM
                    if event.kind == "custom"
                    else content_pb.TOOL_KIND_FUNCTION,
                    extra_json=event.extra_json,
                ),
                is_partial=event.is_partial,
            )
        ).SerializeToString()

    def rest(self, end: GenerationEnd) -> Sequence[bytes]:
        """What comes before the end: text that broke off inside a sentence, unless it is not wanted
        any more; and word of what a guardrail withdraws."""
        frames: list[bytes] = []
        if self._segments is not None and not isinstance(end.error, ClientCancelled):
            frames += self._segments.rest()
        if end.decision is not None and end.decision.retract_from is not None:
            frames.append(self._retract(end.decision))
        return frames

    def _retract(self, decision: Decision) -> bytes:
        notice = relay_pb.Notice(
            kind=relay_pb.NOTICE_KIND_RETRACT,
            generation_id=self._id,
            message="a guardrail withdraws text that was sent",
            choice=decision.retract_choice,
            retract_from_chars=decision.retract_from or 0,
        )
        return _Response(notice=notice).SerializeToString()

    def end(self, end: GenerationEnd, generation: Generation | None) -> bytes:
        """The generation is over; its last frame."""
        frame = relay_pb.End(
            generation_id=self._id,
            choices=self._choices(end),
            usage_final=end.is_usage_final,
            attempts=[
                _attempt(end, index, wants_phases=self._wants_phases)
                for index in range(len(end.attempts))
            ],
            timeline=_timeline(end),
            provider=end.provider,
            model=end.model,
            response_id=end.response_id,
            request_id=self._request_id,
            turn_id=self._turn_id,
        )
        if end.hedge is not None and end.hedge.reason != "disabled":
            frame.hedge.CopyFrom(_hedge(end.hedge))
        error = end.error
        if error is None:
            frame.outcome = relay_pb.OUTCOME_COMPLETED
        elif isinstance(error, ClientCancelled):
            frame.outcome = relay_pb.OUTCOME_CANCELLED
            frame.cancel_reason = relay_pb.CancelReason.ValueType(error.why)
        else:
            frame.outcome = relay_pb.OUTCOME_FAILED
            frame.error.CopyFrom(to_status(error))
        if end.usage is not None:
            frame.usage.CopyFrom(_usage(end.usage))
        if (decision := end.decision) is not None:
            frame.decision_json = orjson.dumps(decision.as_dict())
            if decision.cache != "off":
                frame.cache = decision.cache
        info = generation.info if generation is not None else None
        if info is not None:
            frame.created_s = info.created_s
            frame.service_tier = info.service_tier
            frame.system_fingerprint = info.system_fingerprint
        return _Response(end=frame).SerializeToString()

    def _choices(self, end: GenerationEnd) -> list[relay_pb.ChoiceEnd]:
        return [
            relay_pb.ChoiceEnd(
                choice=choice,
                finish_reason=content_pb.FinishReason.ValueType(
                    int(end.finish_reasons[choice]) if choice in end.finish_reasons else 0
                ),
                raw_reason=end.raw_finish_reasons.get(choice, ""),
                text_chars=self._chars.get(choice, 0),
            )
            for choice in sorted({*self._chars, *end.finish_reasons})
        ]


_URL_SAFE = str.maketrans("-_", "+/")
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=]+")


class _Base64:
    """Decodes base64 that is cut anywhere, padded at the end of each piece, of the whole, or not at
    all. What is none is left out: it comes from a provider, and an error here would end the writer
    that all generations of a session share."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = ""
        """Up to three characters that wait for the rest of their group."""

    def decode(self, text: str) -> bytes:
        """The bytes that are whole now."""
        text = _NOT_BASE64.sub("", text.translate(_URL_SAFE))
        # Padding ends a text of its own, and another may follow: each is decoded by itself.
        *ended, last = (self._rest + text).split("=")
        whole = len(last) & ~3
        self._rest = last[whole:]
        return b"".join(map(_unpadded, ended)) + binascii.a2b_base64(last[:whole])

    def end(self) -> bytes:
        """The bytes of a last group that has no padding."""
        rest, self._rest = self._rest, ""
        return _unpadded(rest)


def _unpadded(text: str) -> bytes:
    """A text of base64 without its padding. One character over is no byte: it is left out."""
    over = len(text) % 4
    return binascii.a2b_base64(text[:-1] if over == 1 else text + "=" * (-over % 4))


def _plain_texts(events: Events, choice: int) -> list[str] | None:
    """The pieces of a batch that is nothing but text of one choice: tokens that had to wait."""
    texts: list[str] = []
    for event in events:
        if type(event) is not TextDelta or event.choice != choice:
            return None
        texts.append(event.text)
    return texts


def _add(delta: relay_pb.Delta, texts: list[str], event: StreamEvent) -> None:
    """Merge one event into a delta; its text is joined at the end."""
    if isinstance(event, TextDelta):
        texts.append(event.text)
    elif isinstance(event, ReasoningDelta):
        delta.reasoning += event.text
    elif isinstance(event, RefusalDelta):
        delta.refusal += event.text
    elif isinstance(event, ToolCallStart):
        delta.tool_arguments.add(index=event.index, call_id=event.call_id, name=event.name)
    elif isinstance(event, ToolArgumentsDelta):
        pieces = delta.tool_arguments
        if pieces and pieces[-1].index == event.index:
            pieces[-1].fragment += event.fragment
        else:
            pieces.add(index=event.index, fragment=event.fragment)
    elif isinstance(event, OpaqueDelta):
        delta.extras.add(key=event.key, value_json=event.value_json)


def _usage(usage: Usage) -> content_pb.Usage:
    return content_pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        is_estimated=usage.is_estimated,
        raw_json=usage.raw_json,
    )


_KINDS = {
    AttemptRole.PRIMARY: relay_pb.ATTEMPT_KIND_PRIMARY,
    AttemptRole.HEDGE: relay_pb.ATTEMPT_KIND_HEDGE,
    AttemptRole.FAILOVER: relay_pb.ATTEMPT_KIND_FAILOVER,
    AttemptRole.RETRY: relay_pb.ATTEMPT_KIND_RETRY,
}

_OUTCOMES = {
    AttemptOutcome.SUCCESS: relay_pb.ATTEMPT_OUTCOME_COMPLETED,
    AttemptOutcome.FAILURE: relay_pb.ATTEMPT_OUTCOME_FAILED,
    AttemptOutcome.OVERLOAD: relay_pb.ATTEMPT_OUTCOME_FAILED,
    AttemptOutcome.IGNORED: relay_pb.ATTEMPT_OUTCOME_CANCELLED,
}


def _attempt(end: GenerationEnd, index: int, *, wants_phases: bool) -> relay_pb.Attempt:
    record = end.attempts[index]
    outcome = _OUTCOMES[record.outcome]
    error = record.error
    if record.is_loser and record.outcome is AttemptOutcome.IGNORED:
        outcome = relay_pb.ATTEMPT_OUTCOME_LOST
    elif record.outcome is AttemptOutcome.IGNORED:
        error = end.error  # it was stopped with its generation
    attempt = relay_pb.Attempt(
        provider=record.provider,
        model=record.model,
        kind=_KINDS[record.role],
        outcome=outcome,
        reason=_reason(error),
        is_winner=record.is_winner,
        http_version={"2": "h2", "1.1": "http/1.1"}.get(record.http_version, ""),
        upstream_status=record.http_status,
        start_us=record.started_us,
        duration_us=max(0, record.ended_us - record.started_us),
        cost_micro_usd=_micro(record.cost),
        cost_upper_micro_usd=_micro(record.cost_upper),
        leg=record.leg,
    )
    if record.usage is not None and not record.is_winner:
        attempt.usage.CopyFrom(_usage(record.usage))
    elif record.is_winner and end.usage is not None:
        attempt.usage.CopyFrom(_usage(end.usage))
    elif record.tokens_seen:
        attempt.usage.completion_tokens = record.tokens_seen
        attempt.usage.is_estimated = True
    if wants_phases:
        attempt.phases.CopyFrom(
            relay_pb.AttemptPhases(**{f"{phase}_us": us for phase, us in record.phases_us.items()})
        )
    return attempt


def _micro(cost: float | None) -> int | None:
    """Whole micro-dollars, rounded up: what is shown is never less than what was spent."""
    return None if cost is None else math.ceil(cost)


def _hedge(hedge: HedgeRecord) -> relay_pb.Hedge:
    return relay_pb.Hedge(
        reason=hedge.reason,
        delay_us=hedge.delay_us,
        second=hedge.second or "",
        is_shadow=hedge.is_shadow,
        fired=hedge.fired,
        won=hedge.won,
        refused=hedge.refused,
        would_fire=bool(hedge.would_fire),
        would_win=hedge.would_win or 0.0,
        added_cost_micro_usd=_micro(hedge.added_cost),
        added_cost_upper_micro_usd=_micro(hedge.added_cost_upper),
    )


def _reason(error: RelayError | None) -> relay_pb.errors_pb2.ErrorReason.ValueType:  # type: ignore[name-defined]
    return int(error.reason) if error is not None else 0


def _timeline(end: GenerationEnd) -> relay_pb.Timeline:
    return relay_pb.Timeline(
        **{f"{phase}_us": us for phase, us in end.phases_us.items()},
        wall_us=end.wall_us,
        stall_count=end.stall_count,
        longest_gap_us=end.longest_gap_us,
    )
