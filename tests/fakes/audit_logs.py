"""Audit logs in memory, and what somebody may do to them."""

from __future__ import annotations

from collections.abc import Sequence

from relay.governance.audit_chain import EMPTY, Anchor, AuditKey, Entry, Head, Row, entry, seal
from relay.governance.audit_verify import AnchorLine, AnchorSource, Report, Verifier

KEY = AuditKey(bytes(range(32)))
OTHER_KEY = AuditKey(bytes(32))
START_US = 1_790_000_000_000_000


def entries(count: int, *, first: int = 1, word: str = "fast") -> list[Entry]:
    """So many different entries."""
    return [
        entry(
            "model.denied",
            at_us=START_US + number * 1000,
            actor=f"key:key_{number % 3}",
            subject=f"{word}-{number}",
            organisation_id="org_a",
            outcome="denied",
            detail={"reason": "SCOPE", "number": number},
        )
        for number in range(first, first + count)
    ]


class Log:
    """A chain with its head, and the anchors that were made of it."""

    def __init__(self, count: int = 0, *, key: AuditKey = KEY, anchors: Sequence[int] = ()) -> None:
        self.key = key
        self.rows: list[Row] = []
        self.head = EMPTY
        self.anchors: list[Anchor] = []
        for number in range(1, count + 1):
            self.add(entries(1, first=number))
            if number in anchors:
                self.anchor()

    def add(self, more: Sequence[Entry]) -> None:
        self.rows += seal(self.head, more, self.key)
        self.head = Head(self.rows[-1].seq, self.rows[-1].mac) if self.rows else EMPTY

    def anchor(self) -> None:
        self.anchors.append(Anchor.of(self.head, START_US, self.key))

    def rewrite(self, index: int, more: Sequence[Entry]) -> None:
        """As somebody with the key would: from there on other entries."""
        self.rows = self.rows[:index]
        self.add([])
        self.add(more)

    def source(self) -> AnchorSource:
        lines = [AnchorLine(number, one) for number, one in enumerate(self.anchors, 1)]
        return AnchorSource("anchors", lines)

    def verify(self, *keys: AuditKey, is_partial: bool = False) -> Report:
        verifier = Verifier(keys or (KEY,), (self.source(),), is_partial=is_partial)
        for row in self.rows:
            verifier.take(row)
        return verifier.report(self.head)
