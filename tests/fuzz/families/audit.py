"""Files of the audit log: anchors, and an export with its rows, as a verifier is given them.

Held to: a line that is none is told as such, and never ends the verifier; a line that is one is
written as it was read; a log that is not the one that was written is never called fine.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from relay.governance import audit_anchor
from relay.governance.audit_export import (
    Header,
    NoExport,
    header_line,
    read_header,
    read_row,
    row_line,
)
from relay.governance.audit_verify import FINE, Verifier
from tests.fakes.audit_logs import KEY, START_US, Log
from tests.fuzz.registry import Target


@cache
def log() -> Log:
    return Log(4, anchors=[2, 4])


@cache
def rows() -> tuple[bytes, ...]:
    return tuple(row_line(row) for row in log().rows)


@cache
def _file() -> Path:
    return Path(tempfile.mkdtemp(prefix="relay-fuzz-")) / "anchors"


def check_anchors(given: bytes) -> bool:
    path = _file()
    path.write_bytes(given)
    source = audit_anchor.read(path)
    found = [line.anchor for line in source.lines if line.anchor is not None]
    for anchor in found:
        assert audit_anchor.from_line(audit_anchor.to_line(anchor)) == anchor
    verifier = Verifier((KEY,), [audit_anchor.read(path)])
    for row in log().rows:
        verifier.take(row)
    report = verifier.report(log().head)
    genuine = {one.proof for one in log().anchors}
    if report.status == FINE:
        assert report.anchors <= len(found)
        assert report.anchors <= sum(one.proof in genuine for one in found), "a forged anchor"
    return bool(found)


def check_export(given: bytes) -> bool:
    """Lines of an export. It is fine only where every row is one that was written."""
    lines = given.split(b"\n")
    try:
        read_header(lines[0])
        is_headed = True
    except NoExport as error:
        assert len(str(error)) < 200
        is_headed = False
    verifier = Verifier((KEY,), is_partial=True)
    taken, written = 0, set(log().rows)
    are_genuine = True
    for line in lines[1:]:
        try:
            row = read_row(line)
        except NoExport:
            continue
        taken += 1
        are_genuine = are_genuine and row in written
        verifier.take(row)
        row_line(row)
    report = verifier.report(None, has_head=False)
    assert are_genuine or report.status != FINE, "what nobody wrote is called fine"
    return is_headed and taken > 0


def anchor_files() -> list[bytes]:
    lines = [audit_anchor.to_line(one) for one in log().anchors]
    return [
        b"\n".join(lines) + b"\n",
        b"Nov 27 host rtrelay: " + lines[0] + b"\n",
        lines[0][:-5],
        lines[0].replace(b'"seq":2', b'"seq":"2"') + b"\n",
    ]


def exports() -> list[bytes]:
    head = header_line(Header(START_US, {"actor": "key:key_1"}, log().anchors[0]))
    return [
        b"\n".join([head, *rows()]),
        b"\n".join([head, rows()[0], rows()[2]]),
        b"\n".join([head, rows()[1].replace(b"denied", b"granted")]),
    ]


TARGETS = {
    "anchors": Target(check_anchors, anchor_files),
    "export": Target(check_export, exports),
}
