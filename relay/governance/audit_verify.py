"""Looks a chain of audit entries through, in one pass and constant memory, and says what is wrong.

What is found, by kind:

- `edit`: an entry's content does not match its MAC: it was changed, or put in, without the key.
- `gap`: numbers are missing.
- `truncation`: there are fewer entries than an anchor, or the head beside them, has counted. Cut
  off, or the database was put back to an older copy of itself: that looks the same.
- `fork`: two histories, both signed: an entry does not follow the one before it, or is another than
  the one that an anchor saw. An older copy went on, or somebody with the key wrote entries anew.
- `order`: numbers repeat or go backwards (in a file; a database cannot).
- `head`: the head beside the entries is not their end.
- `anchor`: an anchor is not what our key has signed.

Warnings are no findings: entries after the last anchor, whose end nobody vouches for yet; no
anchors at all; an old key that signs after a new one.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import pairwise
from operator import attrgetter
from typing import Final, Literal, NamedTuple

from relay.governance.audit_chain import GENESIS, Anchor, AuditKey, Head, Row

Kind = Literal["edit", "gap", "truncation", "fork", "order", "head", "anchor"]

MAX_FINDINGS: Final = 100
"""Told one by one; those beyond are counted. Neighbours of a kind are one finding."""
MAX_SIGNERS: Final = 20

FINE: Final = 0
FOUND: Final = 1
CANNOT: Final = 2


class Finding(NamedTuple):
    """Something wrong, with the numbers of the first and the last entry that it is about."""

    kind: Kind
    seq: int
    last: int
    what: str
    """Begins with its verb, as of several entries."""

    def __str__(self) -> str:
        what = self.what
        if self.seq == self.last:
            for many, one in (
                ("are ", "is "),
                ("were ", "was "),
                ("do ", "does "),
                ("have ", "has "),
            ):
                if what.startswith(many):
                    what = one + what.removeprefix(many)
        return f"{self.kind}: {span(self.seq, self.last)} {what}"


def span(first: int, last: int) -> str:
    """Numbers of entries, in words."""
    return f"entry {first}" if first == last else f"entries {first} to {last}"


class AnchorLine(NamedTuple):
    """A line of a file of anchors."""

    number: int
    anchor: Anchor | None
    """None if it is not one."""
    is_torn: bool = False
    """The last line, without its end: a crash while it was written."""


class AnchorSource(NamedTuple):
    """A file of anchors, oldest first."""

    name: str
    lines: Iterable[AnchorLine]


class Signer(NamedTuple):
    """Entries in a row that one key has signed."""

    key_id: str
    first: int
    last: int


class Report(NamedTuple):
    """What a look through a chain has shown."""

    entries: int
    first_seq: int
    """0 if there are none, as the next."""
    last_seq: int
    anchors: int
    """Anchors that agree with what was looked at."""
    last_anchor: int
    """The number up to which they vouch."""
    findings: tuple[Finding, ...]
    more: int
    """Findings beyond those told."""
    warnings: tuple[str, ...]
    cannot: str
    """Why nothing can be said; "" if something can."""
    signers: tuple[Signer, ...]

    @property
    def first_bad(self) -> int | None:
        """The number of the first entry that something is wrong with."""
        return min((finding.seq for finding in self.findings), default=None)

    @property
    def status(self) -> int:
        """0: fine; 1: something is wrong; 2: it cannot be told."""
        if self.cannot:
            return CANNOT
        return FOUND if self.findings else FINE


_EDITED: Final = "were changed or put in: the content does not match the MAC"
_NO_ENTRY: Final = (AttributeError, TypeError, ValueError, struct.error)
"""What `canonical` raises of a row that was never written by us; UnicodeError is a ValueError."""


class Verifier:
    """Give it every row in the order of its number, then ask for the report.

    Args:
        keys: the present one, then older ones.
        sources: anchors. Those that vouch for more than there was when the rows were read must
            not be among them: read their files no further than they went before.
        is_partial: some entries were left out on purpose: what is missing is no finding.
    """

    def __init__(
        self,
        keys: Sequence[AuditKey],
        sources: Sequence[AnchorSource] = (),
        *,
        is_partial: bool = False,
    ) -> None:
        if not keys:
            raise ValueError("no key is given")
        self._keys = list(keys)
        self._is_partial = is_partial
        self._findings: list[Finding] = []
        self._more = 0
        self._warnings: list[str] = []
        self._signers: list[Signer] = []
        self._unknown_anchors: dict[str, int] = {}
        """By key, the last number that anchors of keys which we do not have speak of."""
        self._good_anchors = self._seen_anchors = 0
        self._agreed = self._vouched = 0
        """Anchors that agree with their rows, and the number of the last such row."""
        self._anchors: Iterator[Anchor] = merge(
            *(self._checked(source) for source in sources), key=attrgetter("seq")
        )
        self._next_anchor = next(self._anchors, None)
        self._rows = self._signed = 0
        self._first = self._last = 0
        self._mac = GENESIS
        """Of the last row."""
        self._links = True
        """Whether the last row's MAC is one that the next row has to hold."""

    # --- rows -------------------------------------------------------------------------------

    def take(self, row: Row) -> None:
        """Look at the next row."""
        seq = row.seq
        if type(seq) is not int:  # SQLite keeps anything in any column
            self._found("edit", self._last + 1, "have no number")
            return
        self._rows += 1
        if self._rows == 1:
            self._first = seq
            if self._is_partial and seq != 1:
                self._links = False
                self._last = seq - 1
        if seq <= self._last:
            self._found("order", seq, f"do not belong after entry {self._last}")
            if not self._is_signed(row):
                self._found("edit", seq, _EDITED)
            return
        if seq > self._last + 1:
            if not self._is_partial:
                self._found("gap", self._last + 1, "are missing", seq - 1)
            self._links = False
        is_signed = self._is_signed(row)
        if not is_signed:
            self._found("edit", seq, _EDITED)
        elif self._links and row.previous != self._mac:
            what = "do not follow the entry before: two histories were put together"
            self._found("fork", seq, what)
        # What comes after a changed entry says nothing more.
        self._links = is_signed
        self._mac = row.mac
        self._last = max(seq, self._last)
        if self._next_anchor is not None and self._next_anchor.seq <= seq:
            self._compare(row, is_signed=is_signed)

    def _is_signed(self, row: Row) -> bool:
        """Whether one of the keys has made the row's MAC."""
        for index, key in enumerate(self._keys):
            try:
                computed = key.mac(row.seq, row.entry, row.previous)
                is_ours = hmac.compare_digest(computed, row.mac)
            except _NO_ENTRY:
                return False
            if is_ours:
                if index:  # the next one is likely to be by the same
                    self._keys.insert(0, self._keys.pop(index))
                self._signed += 1
                self._note_signer(key.id, row.seq)
                return True
        return False

    def _note_signer(self, key_id: str, seq: int) -> None:
        signers = self._signers
        if signers and signers[-1].key_id == key_id:
            signers[-1] = signers[-1]._replace(last=seq)
        elif len(signers) < MAX_SIGNERS:
            signers.append(Signer(key_id, seq, seq))

    # --- anchors ----------------------------------------------------------------------------

    def _checked(self, source: AnchorSource) -> Iterator[Anchor]:
        """The anchors of a file that our keys have signed, never going back."""
        last = 0
        for number, anchor, is_torn in source.lines:
            where = f"{source.name}, line {number}"
            if anchor is None:
                if is_torn:
                    self._warnings.append(f"{where} is torn: a crash while it was written")
                else:
                    self._found("anchor", last + 1, f"and after: a line is no anchor ({where})")
                continue
            self._seen_anchors += 1
            if not any(anchor.is_by(key) for key in self._keys):
                if anchor.key_id in {key.id for key in self._keys}:
                    what = f"have an anchor that was changed or put in ({where})"
                    self._found("anchor", anchor.seq, what)
                elif len(self._unknown_anchors) < MAX_SIGNERS:
                    self._unknown_anchors[anchor.key_id] = anchor.seq
                continue
            self._good_anchors += 1
            if anchor.seq < last:
                what = f"were anchored, and then a copy without them ({where})"
                self._found("fork", anchor.seq + 1, what, last)
                continue
            last = anchor.seq
            yield anchor

    def _compare(self, row: Row, *, is_signed: bool) -> None:
        """Compare the row with the anchors that speak of it; of missing rows they cannot."""
        seq = row.seq
        while (anchor := self._next_anchor) is not None and anchor.seq <= seq:
            if anchor.seq == seq and anchor.mac == row.mac:
                self._agreed += 1
                self._vouched = seq
            elif anchor.seq == seq and is_signed:
                what = "are not what an anchor has seen: rewritten, or an older copy went on"
                self._found("fork", min(self._vouched + 1, seq), what, seq)
            self._next_anchor = next(self._anchors, None)

    # --- the end ----------------------------------------------------------------------------

    def report(self, head: Head | None, *, has_head: bool = True) -> Report:
        """What was found.

        Args:
            head: what stands beside the rows; None if there is nothing.
            has_head: False where nothing is expected there.
        """
        if not self._is_partial:
            self._compare_end(head, has_head=has_head)
        self._warn()
        return Report(
            self._rows,
            self._first,
            self._last,
            self._agreed,
            self._vouched,
            tuple(sorted(self._findings, key=attrgetter("seq"))),
            self._more,
            tuple(self._warnings),
            self._cannot(),
            tuple(self._signers),
        )

    def _compare_end(self, head: Head | None, *, has_head: bool) -> None:
        last = self._last
        anchored = 0
        while (anchor := self._next_anchor) is not None:
            anchored = anchor.seq
            self._next_anchor = next(self._anchors, None)
        if head is not None and head.seq > last:
            what = f"are missing at the end: the head counts {head.seq}"
            self._found("truncation", last + 1, what, max(head.seq, anchored))
        elif anchored > last:
            what = (
                f"are missing at the end: an anchor has counted {anchored}; they were cut off, or"
                " the database was put back to an older copy"
            )
            self._found("truncation", last + 1, what, anchored)
        if not has_head:
            return
        if head is None:
            if last:
                self._found("head", last, "have no head beside them")
        elif head.seq < last:
            what = f"are beyond the head, which counts {head.seq}"
            self._found("head", head.seq + 1, what, last)
        elif head.seq == last and self._links and head.mac != self._mac:
            self._found("head", last, "are not what the head says")

    def _warn(self) -> None:
        if self._rows and not self._seen_anchors:
            self._warnings.append(
                "no anchors: that the end is cut off, or that somebody with the key wrote entries"
                " anew, cannot be seen"
            )
        elif self._last > self._vouched and self._good_anchors and not self._is_partial:
            what = span(self._vouched + 1, self._last)
            self._warnings.append(f"not anchored yet: {what}")
        if self._is_partial:
            self._warnings.append("a part: whether entries are missing is not looked at")
        for key_id, seq in self._unknown_anchors.items():
            self._warnings.append(f"anchors up to entry {seq} are by key {key_id}, not among ours")
        seen: set[str] = set()
        for before, after in pairwise(self._signers):
            seen.add(before.key_id)
            if after.key_id in seen:
                self._warnings.append(
                    f"{span(after.first, after.last)} by key {after.key_id} after {before.key_id}"
                    " had signed: right for as long as workers are restarted with a new key"
                )

    def _cannot(self) -> str:
        if self._rows and not self._signed and not self._good_anchors:
            return "no entry matches the key: it is another one, or every entry was changed"
        if self._unknown_anchors and not self._good_anchors and not self._findings:
            return "the anchors are by a key that was not given"
        return ""

    def _found(self, kind: Kind, seq: int, what: str, last: int | None = None) -> None:
        last = seq if last is None else last
        findings = self._findings
        for index in range(len(findings) - 1, max(-1, len(findings) - 4), -1):
            earlier = findings[index]
            if earlier.kind != kind or earlier.what != what:
                continue
            if earlier.seq <= seq <= earlier.last + 1:
                findings[index] = earlier._replace(last=max(last, earlier.last))
                return
        if len(findings) == MAX_FINDINGS:
            self._more += 1
        else:
            findings.append(Finding(kind, seq, last, what))
