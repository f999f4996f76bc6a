"""A checkpoint: anchor the log's end, unless it contradicts what was anchored before.

An anchor vouches for everything before it, so none is made of a log that has lost or changed what
the last one vouched for: that is told instead, and the file keeps the proof.

Blocking: called in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from relay.governance.audit_anchor import AnchorFile, to_line
from relay.governance.audit_chain import EMPTY, Anchor, AuditKey, Head


class AnchorRefused(Exception):
    """The log is not a continuation of what was anchored; the message says how."""


class Heads(Protocol):
    """The log, as a checkpoint asks it. Each raises StoreUnavailable."""

    def head(self) -> Head:
        """The end of the chain."""
        ...

    def mac_of(self, seq: int) -> bytes | None:
        """The MAC of an entry, None if there is none."""
        ...


class Checkpoint:
    """Makes anchors of one log.

    Args:
        file: where they are kept, and the last one is found.
        key: what they are signed with.
        tell: a second place (syslog): gets each line; what it raises is raised, after the file has
            the anchor.
    """

    def __init__(
        self,
        log: Heads,
        file: AnchorFile,
        key: AuditKey,
        tell: Callable[[bytes], None] | None = None,
    ) -> None:
        self._log = log
        self._file = file
        self._key = key
        self._tell = tell

    def run(self, now_us: int) -> Anchor | None:
        """Anchor the end; None if it is anchored or there is nothing.

        Raises:
            AnchorRefused: the log does not continue what was anchored; nothing was written.
            AnchorError: the file, or the second place, cannot be written.
            StoreUnavailable: the log cannot be asked.
        """

        def decide(last: Anchor | None) -> Anchor | None:
            head = self._log.head()
            if last is not None:
                if head.seq < last.seq:
                    raise AnchorRefused(
                        f"the audit log has {head.seq} entries, and {last.seq} were anchored"
                    )
                if self._log.mac_of(last.seq) != last.mac:
                    raise AnchorRefused(f"entry {last.seq} of the audit log is not as anchored")
                if head.seq == last.seq:
                    return None
            return None if head == EMPTY else Anchor.of(head, now_us, self._key)

        anchor = self._file.add(decide)
        if anchor is not None and self._tell is not None:
            self._tell(to_line(anchor))
        return anchor
