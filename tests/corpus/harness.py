"""One way of holding a codec against the corpus, whatever its wire.

A `Wire` says which recorded exchanges are its own and how what the corpus expects of them compares
with what the codec said; the cuts, the errors and what differs on purpose are treated here, alike
for all. What differs is listed case by case, as changes of what the corpus expects: a case that
differs in any other way fails, and so does one that is listed and does not differ.
"""

from __future__ import annotations

import copy
import enum
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import ModuleType
from typing import Any, ClassVar
from unittest import mock
from zlib import crc32

from relay.codecs.base import Codec
from relay.codecs.error_text import public_text
from relay.content import ProviderFailed, StreamEvent
from relay.errors import Reason, RelayError, StreamTruncated, UpstreamStatus
from tests.corpus.error_classes import REASONS
from tests.fakes.collect import Collected, collect, pieces_of, run
from tests.fakes.properties import IS_FULL
from tests.fakes.wire_corpus import Case, all_cases, borders

RETRYABLE = frozenset(
    {
        Reason.UPSTREAM_RATE_LIMITED,
        Reason.UPSTREAM_OVERLOADED,
        Reason.UPSTREAM_FAILED,
        Reason.FIRST_TOKEN_TIMEOUT,
    }
)
"""Reasons after which the same target may be asked again; the corpus calls these retryable, while
`RelayError.retry` also allows another target after the rest."""

ALL_CUTS_BYTES = 4096 if IS_FULL else 768
"""Bodies up to this size are cut in two at every offset."""
MANY_CUTS_BYTES = 4096
"""Up to this size at every `CUTS_STEP`-th offset, each case beginning at one of its own, and beside
every border of events; longer ones inside of their characters alone."""
CUTS_STEP = 7


class Ending(enum.Enum):
    """How a prefix of a stream ends, told without the relay's own parsers."""

    CLEAN = "clean"
    """The wire's own end has come."""
    FAILED = "failed"
    """The provider has reported a failure."""
    CUT = "cut"


@dataclass(frozen=True)
class Difference:
    """Where we differ from the corpus on purpose, in one case."""

    why: str
    changes: Mapping[str, Any]
    """By the path in what the corpus expects (`error.retryable`): what we expect, or a function of
    the case that gives it, so that no text of the corpus is copied. `failure` is the reason of a
    failure where the corpus expects none."""


@dataclass(frozen=True)
class Reading:
    """What a codec made of one body."""

    result: Collected
    is_finished: bool
    mended_events: int
    events: list[StreamEvent] = field(compare=False)

    @property
    def events_shown(self) -> list[object]:
        """The events, errors as texts, which compare."""
        return [
            (type(event.error), str(event.error)) if isinstance(event, ProviderFailed) else event
            for event in self.events
        ]


class Wire(ABC):
    """How one codec is held against its cases."""

    name: ClassVar[str]
    """As in configuration."""
    lane: ClassVar[tuple[ModuleType, str] | None] = None
    """Where the number of misses stands after which the lane for text is not tried any more."""
    keeps_events: ClassVar[bool] = False
    """A cut moves no border of events: they are the same one by one, not only added up."""
    differences: ClassVar[Mapping[str, Difference]] = {}
    """By the case's name."""

    @abstractmethod
    def takes(self, case: Case) -> bool:
        """Whether a case is one of this wire's."""

    @abstractmethod
    def codec(self, case: Case) -> Codec:
        """A codec that has sent the case's request."""

    @abstractmethod
    def check_answer(self, case: Case, reading: Reading, expected: dict[str, Any]) -> None:
        """Compare what the answer says."""

    @abstractmethod
    def ending(self, case: Case, prefix: bytes) -> Ending:
        """How a prefix ends."""

    def error_words(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """What of an expected error stands in which fact of ours; empty words are not there."""
        return {"provider_type": wanted.get("type"), "provider_code": wanted.get("code")}

    def borders(self, case: Case) -> list[int]:
        """Where a stream may be cut between events, the very beginning included."""
        return borders(case.body) if case.is_stream else []

    # --- the same for every wire --------------------------------------------------------------

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases of this wire, none where the corpus is absent."""
        return _cases(self)

    def expected(self, case: Case) -> dict[str, Any]:
        """What the corpus expects, changed where we differ."""
        difference = self.differences.get(case.name)
        if difference is None:
            return case.expected
        changed = copy.deepcopy(case.expected)
        for path, value in difference.changes.items():
            *places, last = path.split(".")
            at = changed
            for place in places:
                at = at[place]
            at[last] = value(case) if callable(value) else value
        return changed

    def read(self, case: Case, pieces: list[bytes]) -> Reading:
        """Have a codec read a body in these pieces."""
        codec = self.codec(case)
        events = run(codec, pieces, status=case.status, headers=case.headers_as_sent)
        return Reading(collect(events), codec.is_finished, codec.mended_events, events)

    def check(self, case: Case) -> None:
        """The whole body gives what is expected."""
        reading, expected = self.read(case, [case.body]), self.expected(case)
        self.check_answer(case, reading, expected)
        self._check_failure(case, reading.result.failure, expected)

    def check_cuts(self, case: Case) -> None:
        """However the body is cut, it gives the same."""
        body = case.body
        whole = self.read(case, [body])
        cuts = {"byte by byte": pieces_of(body, 1)}
        found = borders(body)
        cuts["event by event"] = _pieces(body, found)
        cuts["in the middle of every border"] = _pieces(body, [at - 1 for at in found if at > 1])
        inside = case.meta.get("split_inside_multibyte_at", [])
        if len(body) <= ALL_CUTS_BYTES:
            offsets = list(range(1, len(body)))
        elif len(body) <= MANY_CUTS_BYTES:
            first = 1 + crc32(case.name.encode()) % CUTS_STEP
            beside = {at + by for at in found for by in (-2, -1, 0, 1)}
            every = {*range(first, len(body), CUTS_STEP), *beside, *inside}
            offsets = sorted(at for at in every if 0 < at < len(body))
        else:
            cuts["seven bytes at a time"] = pieces_of(body, 7)
            offsets = inside
        cuts.update((f"at {at}", [body[:at], body[at:]]) for at in offsets)
        for how, pieces in cuts.items():
            reading = self.read(case, pieces)
            assert reading == whole, how
            if self.keeps_events:
                assert reading.events_shown == whole.events_shown, how

    def check_borders(self, case: Case) -> None:
        """Cut at any event border, it is a failure unless the wire's own end had come."""
        for border in self.borders(case):
            prefix = case.body[:border]
            failure, ending = self.read(case, [prefix]).result.failure, self.ending(case, prefix)
            if ending is Ending.CLEAN:
                assert failure is None, f"cut at {border}: {failure}"
            elif ending is Ending.FAILED:
                assert isinstance(failure, UpstreamStatus), f"cut at {border}"
            else:
                assert isinstance(failure, StreamTruncated), f"cut at {border}: {failure!r}"

    def check_lane(self, case: Case) -> None:
        """The lane for text loses nothing."""
        if self.lane is None:
            return
        with_lane = self.read(case, [case.body])
        with mock.patch.object(*self.lane, 0):
            assert self.read(case, [case.body]) == with_lane

    def checks(self, case: Case) -> Iterator[tuple[str, Callable[[Case], None]]]:
        """What is to be checked of a case, by name."""
        yield "expected", self.check
        yield "cuts", self.check_cuts
        if self.borders(case):
            yield "borders", self.check_borders
            yield "lane", self.check_lane

    def _check_failure(
        self, case: Case, failure: RelayError | None, expected: dict[str, Any]
    ) -> None:
        wanted = expected.get("error")
        if wanted is None:
            assert (failure and failure.reason) == expected.get("failure"), failure
            return
        assert failure is not None
        assert failure.reason is REASONS[case.name], failure.reason
        if not isinstance(failure, UpstreamStatus):
            assert set(wanted) <= {"note"}, failure  # truncated or empty: nothing was said
            return
        assert failure.http_status == case.status
        for fact, word in self.error_words(wanted).items():
            if word:
                assert failure.metadata.get(fact) == public_text(str(word)), fact
        if wanted.get("message"):
            assert failure.public_message.startswith(public_text(wanted["message"]))
        if wanted.get("retryable") is not None:
            # Else it is true, or a text that says when.
            assert (failure.reason in RETRYABLE) == (wanted["retryable"] is not False)
        if wanted.get("retry_after_s") is not None:
            # Google's message has it with a fraction, which the detail cuts off.
            assert failure.retry_after_s is not None
            assert wanted["retry_after_s"] <= failure.retry_after_s < wanted["retry_after_s"] + 1
        elif wanted.get("retryable") is False:
            assert failure.retry_after_s is None
        _check_secrecy(failure.public_message)


@cache
def _cases(wire: Wire) -> tuple[Case, ...]:
    return tuple(case for case in all_cases() if wire.takes(case))


def _pieces(body: bytes, at: list[int]) -> list[bytes]:
    """The body cut at these offsets."""
    borders = [0, *at, len(body)]
    return [body[a:b] for a, b in itertools.pairwise(borders) if a < b]


def _check_secrecy(message: str) -> None:
    assert not re.search(r"sk-[A-Za-z0-9]", message)
    assert not re.search(r"\borg-[A-Za-z0-9]{8}", message)
    assert "<html" not in message.lower()
    assert "fake-project" not in message
