"""W3C Trace Context, as far as the relay takes part: whose trace a generation belongs to.

https://www.w3.org/TR/trace-context/ sections 3.2 and 3.3: `version-traceid-parentid-flags` in
lower-case hex, and `tracestate`, which is handed on as it came. An invalid value is ignored, as the
specification asks: a broken tracer must not break calls.

What a generation and its attempts are called in a trace is made out of the generation's id, which
is random: nothing has to be kept of a trace while a generation runs, whoever needs a name makes it
again.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final, NamedTuple

_TRACEPARENT: Final = re.compile(
    r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-[!-~]*)?"
)
_NO_TRACE: Final = "0" * 32
_NO_SPAN: Final = "0" * 16
MAX_CHARS: Final = 512
"""A later version may append fields; nothing this long is read. Of `tracestate` the specification
wants so many to be handed on."""
_KEY: Final = r"[a-z0-9][a-z0-9_*/@-]{0,255}"
_MEMBER: Final = re.compile(
    rf"{_KEY}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{{0,255}}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_MAX_MEMBERS: Final = 32
_SPAN_BITS: Final = 1 << 64


def valid_traceparent(value: str) -> str:
    """The header as it was given, or "" if it is no valid one."""
    if len(value) > MAX_CHARS:
        return ""
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return ""
    version, trace, span, more = found.groups()
    if version == "ff" or trace == _NO_TRACE or span == _NO_SPAN:
        return ""
    if more and version == "00":  # version 00 has exactly four fields
        return ""
    return value


def valid_tracestate(value: str) -> str:
    """The header, those of several joined by commas, or "" if it is no valid one."""
    if len(value) > MAX_CHARS:
        return ""
    members = value.split(",")
    if len(members) > _MAX_MEMBERS:
        return ""
    # Apart, since an expression for the whole list tries each blank in many places (empty members
    # are allowed): a header of fifty bytes took seconds.
    for member in members:
        if (said := member.strip(" \t")) and _MEMBER.fullmatch(said) is None:
            return ""
    return value.strip(" \t")


def trace_id(traceparent: str) -> str:
    """The trace of a valid `traceparent`, "" of none."""
    return traceparent[3:35]


class GenerationTrace(NamedTuple):
    """What one generation is called in its trace. Lower-case hex."""

    trace_id: str
    """The client's, else one of its own: 32 digits."""
    span_id: str
    """Of the generation: 16 digits."""
    parent_id: str
    """Of the client's span; "" where it has told none."""
    is_parent_sampled: bool
    """Whether the client's own spans are kept; False where it has told none."""

    def span_of(self, attempt: int, phase: int = 0) -> str:
        """What an attempt, counted from 0 in the order of starts, or a phase of it is called;
        attempt -1 is the generation itself.

        Args:
            phase: from 1; 0 for the attempt as a whole.
        """
        return f"{int(self.span_id, 16) ^ ((attempt + 1) << 8 | phase):016x}"


def trace_of(generation_id: str, traceparent: str) -> GenerationTrace:
    """
    Args:
        generation_id: the relay's own, random.
        traceparent: valid, or "".
    """
    made = blake2b(generation_id.encode(), digest_size=24).hexdigest()
    if not traceparent:
        return GenerationTrace(made[:32], made[32:], "", False)
    # Flags are a bit field: the lowest says `sampled`.
    is_sampled = traceparent[54] in "13579bdf"
    return GenerationTrace(traceparent[3:35], made[32:], traceparent[36:52], is_sampled)


def is_in_share(trace_id: str, share: float) -> bool:
    """Whether a trace is of those that are kept, when that share of all is: the same answer by
    every process and for every generation of the trace, since ids are random (the rule of
    OpenTelemetry's `TraceIdRatioBased`)."""
    return share >= 1.0 or int(trace_id[16:], 16) < share * _SPAN_BITS


class TraceRule(NamedTuple):
    """Whose spans are kept, as far as that is known before the end (W3C: `sampled`)."""

    share: float
    """Of traces that begin here: 0 to 1."""
    follows_parent: bool = True
    """Whether the client's word decides where there is one."""

    def is_sampled(self, trace: GenerationTrace) -> bool:
        """Parent-based, by ratio where there is no parent."""
        if self.follows_parent and trace.parent_id:
            return trace.is_parent_sampled
        return is_in_share(trace.trace_id, self.share)


def trace_headers(
    rule: TraceRule | None, generation_id: str, traceparent: str, tracestate: str, attempt: int
) -> list[tuple[str, str]]:
    """What a provider is told of the trace that an attempt belongs to, where it is told of it.

    Args:
        rule: of this relay's own spans; None where it makes none: then the client's words are
            handed on as they are, as whoever takes no part in a trace does.
        attempt: counted from 0 in the order of starts.
    """
    if rule is None:
        parent = traceparent
    else:
        trace = trace_of(generation_id, traceparent)
        flags = "01" if rule.is_sampled(trace) else "00"
        parent = f"00-{trace.trace_id}-{trace.span_of(attempt)}-{flags}"
    if not parent:
        return []
    headers = [("traceparent", parent)]
    if traceparent and tracestate:
        headers.append(("tracestate", tracestate))
    return headers
