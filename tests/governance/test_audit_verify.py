"""What somebody does to a log is found, named by its kind, at its first number (A1, P11)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance.audit_chain import EMPTY, GENESIS, Anchor, AuditKey, Entry, Head, Row, seal
from relay.governance.audit_verify import (
    CANNOT,
    FINE,
    FOUND,
    MAX_FINDINGS,
    AnchorLine,
    AnchorSource,
    Report,
    Verifier,
)
from tests.fakes.audit_logs import KEY, OTHER_KEY, START_US, Log, entries
from tests.fakes.properties import examples


def kinds(report: Report) -> set[str]:
    return {finding.kind for finding in report.findings}


@st.composite
def logs(draw: st.DrawFn, least: int = 3) -> Log:
    """Of 3 to 12 entries, with anchors; the last entry has one."""
    count = draw(st.integers(least, 12))
    anchors = draw(st.sets(st.integers(1, count)))
    return Log(count, anchors=[*anchors, count])


# --- nothing is wrong -------------------------------------------------------------------------


@given(logs())
@examples(20, full=1000)
def test_untouched_log_is_fine(log: Log) -> None:
    report = log.verify()
    assert report.status == FINE
    assert not report.findings
    assert not report.warnings
    assert report.entries == report.last_seq == report.last_anchor == len(log.rows)
    assert report.anchors == len(log.anchors)


def test_empty_log_is_fine() -> None:
    for head in (None, EMPTY):
        report = Verifier((KEY,)).report(head)
        assert (report.status, report.entries, report.warnings) == (FINE, 0, ())


def test_entries_after_the_last_anchor_are_a_warning() -> None:
    report = Log(10, anchors=[3, 7]).verify()
    assert report.status == FINE
    assert report.last_anchor == 7
    assert report.warnings == ("not anchored yet: entries 8 to 10",)


def test_log_without_anchors_is_a_warning() -> None:
    report = Log(3).verify()
    assert report.status == FINE
    assert "no anchors" in report.warnings[0]


def test_anchors_of_several_machines_are_merged() -> None:
    log = Log(9, anchors=[1, 4, 6, 9])
    here = AnchorSource("a", [AnchorLine(1, log.anchors[0]), AnchorLine(2, log.anchors[2])])
    there = AnchorSource("b", [AnchorLine(1, log.anchors[1]), AnchorLine(2, log.anchors[3])])
    verifier = Verifier((KEY,), (here, there))
    for row in log.rows:
        verifier.take(row)
    assert verifier.report(log.head).anchors == 4


# --- single acts, each before the last anchor -------------------------------------------------


@given(logs(), st.data())
@examples(100, full=10_000)
def test_edit_is_found(log: Log, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(log.rows) - 1))
    row = log.rows[index]
    fields: dict[str, Any] = {
        "at_us": row.entry.at_us + 1,
        "actor": "key:nobody",
        "action": "model.allowed",
        "subject": row.entry.subject + " ",
        "organisation_id": "org_b",
        "outcome": "done",
        "detail": row.entry.detail.replace("SCOPE", "SCOPF"),
    }
    what = data.draw(st.sampled_from([*fields, "previous", "mac", "content and mac"]))
    if what == "previous":
        changed = row._replace(previous=b"x" * 32)
    elif what == "mac":
        changed = row._replace(mac=b"x" * 32)
    elif what == "content and mac":
        changed = row._replace(entry=row.entry._replace(actor="x"), mac=b"x" * 32)
    else:
        changed = row._replace(entry=row.entry._replace(**{what: fields[what]}))
    log.rows[index] = changed
    report = log.verify()
    assert report.status == FOUND
    assert [(f.kind, f.seq, f.last) for f in report.findings] == [("edit", row.seq, row.seq)]


@given(logs(), st.data())
@examples(40, full=5000)
def test_every_bit_counts(log: Log, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(log.rows) - 1))
    name = data.draw(st.sampled_from(["previous", "mac"]))
    bit = data.draw(st.integers(0, 255))
    row = log.rows[index]
    value = bytearray(getattr(row, name))
    value[bit // 8] ^= 1 << bit % 8
    changed: Any = {name: bytes(value)}
    log.rows[index] = row._replace(**changed)
    assert kinds(log.verify()) == {"edit"}


@given(logs(), st.data())
@examples(40, full=5000)
def test_drop_is_a_gap(log: Log, data: st.DataObject) -> None:
    count = len(log.rows)
    first = data.draw(st.integers(1, count - 1))
    last = data.draw(st.integers(first, count - 1))
    del log.rows[first - 1 : last]
    report = log.verify()
    assert [(f.kind, f.seq, f.last) for f in report.findings] == [("gap", first, last)]
    assert report.status == FOUND


@given(logs(), st.data(), st.booleans())
@examples(40, full=5000)
def test_cut_end_is_a_truncation(log: Log, data: st.DataObject, is_head_cut: bool) -> None:
    """Whether the head beside it is set back or not."""
    count = len(log.rows)
    left = data.draw(st.integers(0, count - 1))
    log.rows = log.rows[:left]
    if is_head_cut:
        log.head = Head(left, log.rows[-1].mac) if left else EMPTY
    report = log.verify()
    assert [(f.kind, f.seq, f.last) for f in report.findings] == [("truncation", left + 1, count)]
    assert ("older copy" in report.findings[0].what) is is_head_cut
    assert report.status == FOUND


@given(logs(), st.data())
@examples(40, full=5000)
def test_swap_is_found(log: Log, data: st.DataObject) -> None:
    """Two rows take each other's number: in a database, or in a file."""
    one, other = sorted(
        data.draw(st.lists(st.integers(0, len(log.rows) - 1), min_size=2, max_size=2, unique=True))
    )
    rows = log.rows
    if data.draw(st.booleans()):
        rows[one], rows[other] = (
            rows[other]._replace(seq=rows[one].seq),
            rows[one]._replace(seq=rows[other].seq),
        )
        report = log.verify()
        assert kinds(report) == {"edit"}
    else:
        rows[one], rows[other] = rows[other], rows[one]
        report = log.verify()
        assert "order" in kinds(report)
    assert report.first_bad == one + 1
    assert report.status == FOUND


@given(logs(), st.data(), st.booleans())
@examples(40, full=5000)
def test_insert_is_found(log: Log, data: st.DataObject, with_key_of_ones_own: bool) -> None:
    """Without the key: the rows after it are numbered anew, or it stands at the end."""
    index = data.draw(st.integers(0, len(log.rows)))
    seq = index + 1
    previous = log.rows[index - 1].mac if index else GENESIS
    put_in = Row(seq, entries(1)[0], previous, b"x" * 32)
    if with_key_of_ones_own:
        put_in = put_in._replace(mac=OTHER_KEY.mac(seq, put_in.entry, previous))
    rest = [row._replace(seq=row.seq + 1) for row in log.rows[index:]]
    log.rows = [*log.rows[:index], put_in, *rest]
    report = log.verify()
    assert ("edit", seq) in {(f.kind, f.seq) for f in report.findings}
    assert report.first_bad == seq
    assert report.status == FOUND


@given(logs(), st.data())
@examples(40, full=5000)
def test_repeat_of_an_entry_is_found(log: Log, data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(log.rows))
    log.rows.append(row._replace(seq=len(log.rows) + 1))
    report = log.verify()
    assert "edit" in kinds(report)
    assert report.first_bad == len(log.rows)


@given(logs(), st.data())
@examples(40, full=5000)
def test_restamp_without_the_key_is_found(log: Log, data: st.DataObject) -> None:
    """All from one entry on, consistent in itself, by a key of one's own, head and all."""
    index = data.draw(st.integers(0, len(log.rows) - 1))
    count = len(log.rows)
    log.key = OTHER_KEY
    log.rewrite(index, entries(count - index, first=index + 1, word="forged"))
    report = log.verify()
    assert [(f.kind, f.seq, f.last) for f in report.findings] == [("edit", index + 1, count)]
    assert report.status == FOUND  # since our key has signed the anchors


@given(logs(), st.data())
@examples(40, full=5000)
def test_restamp_with_the_key_is_a_fork(log: Log, data: st.DataObject) -> None:
    """What a chain alone cannot see, and anchors do."""
    count = len(log.rows)
    index = data.draw(st.integers(0, count - 1))
    more = data.draw(st.integers(0, 3))
    anchors = sorted(anchor.seq for anchor in log.anchors)
    log.rewrite(index, entries(count - index + more, first=index + 1, word="forged"))
    report = log.verify()
    good = max((seq for seq in anchors if seq <= index), default=0)
    assert [(f.kind, f.seq, f.last) for f in report.findings] == [("fork", good + 1, count)]
    assert good + 1 <= index + 1
    assert report.status == FOUND


@given(logs(), st.data())
@examples(40, full=5000)
def test_older_copy_that_went_on_is_a_fork_or_ends_too_early(log: Log, data: st.DataObject) -> None:
    """The relay writes to an older copy of its database, with the right key, none the wiser."""
    count = len(log.rows)
    copied = data.draw(st.integers(0, count - 1))
    more = data.draw(st.integers(1, 12))
    log.rewrite(copied, entries(more, first=copied + 1, word="again"))
    report = log.verify()
    assert report.status == FOUND
    assert kinds(report) <= {"fork", "truncation"}
    assert ("truncation" in kinds(report)) is (copied + more < count)
    assert report.first_bad is not None
    assert report.first_bad <= count
    log.anchor()
    if copied + more < count:
        assert "fork" in kinds(log.verify())  # an anchor that goes back says so for ever


def test_row_of_another_history_is_a_fork() -> None:
    """Spliced in, signed by the key, without any anchor."""
    log, other = Log(6), Log(2)
    other.add(entries(4, first=3, word="other"))
    log.rows[4] = other.rows[4]
    report = log.verify()
    assert [(f.kind, f.seq, f.last) for f in report.findings] == [("fork", 5, 6)]


# --- the head beside the entries --------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "first", "last"),
    [(None, 5, 5), (Head(3, b"x" * 32), 4, 5), (Head(5, b"x" * 32), 5, 5)],
)
def test_head_that_is_not_the_end_is_found(head: Head | None, first: int, last: int) -> None:
    log = Log(5, anchors=[5])
    verifier = Verifier((KEY,), (log.source(),))
    for row in log.rows:
        verifier.take(row)
    report = verifier.report(head)
    assert [(f.kind, f.seq, f.last) for f in report.findings] == [("head", first, last)]


# --- anchors ----------------------------------------------------------------------------------


@given(logs(), st.data())
@examples(30, full=2000)
def test_changed_anchor_is_found(log: Log, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(log.anchors) - 1))
    anchor = log.anchors[index]
    change: Any = data.draw(
        st.sampled_from(
            [
                {"seq": anchor.seq + 1},
                {"at_us": 0},
                {"mac": b"x" * 32},
                {"proof": b"x" * 32},
            ]
        )
    )
    log.anchors[index] = anchor._replace(**change)
    assert "anchor" in kinds(log.verify())


def test_line_that_is_no_anchor_is_found_and_a_torn_end_is_not() -> None:
    log = Log(3, anchors=[1, 3])
    good = [AnchorLine(n, one) for n, one in enumerate(log.anchors, 1)]
    for extra, status in ((AnchorLine(3, None), FOUND), (AnchorLine(3, None, True), FINE)):
        verifier = Verifier((KEY,), (AnchorSource("file", [*good, extra]),))
        for row in log.rows:
            verifier.take(row)
        report = verifier.report(log.head)
        assert report.status == status
        assert "file, line 3" in str(report.findings or report.warnings)


# --- keys -------------------------------------------------------------------------------------


def test_wrong_key_is_not_called_an_edit() -> None:
    report = Log(5, anchors=[2, 5]).verify(OTHER_KEY)
    assert report.status == CANNOT
    assert "no entry matches the key" in report.cannot


def test_anchors_by_a_key_that_is_not_given_cannot_be_judged() -> None:
    log = Log(5)
    log.anchors = [Anchor.of(log.head, START_US, OTHER_KEY)]
    report = log.verify()
    assert report.status == CANNOT
    assert OTHER_KEY.id in report.warnings[0]
    assert log.verify(KEY, OTHER_KEY).status == FINE


def test_key_can_be_changed_for_another() -> None:
    log = Log(4, key=OTHER_KEY, anchors=[4])
    log.key = KEY
    log.add(entries(3, first=5))
    log.anchor()
    report = log.verify(KEY, OTHER_KEY)
    assert report.status == FINE
    assert not report.warnings
    assert [tuple(one) for one in report.signers] == [(OTHER_KEY.id, 1, 4), (KEY.id, 5, 7)]
    assert kinds(log.verify(KEY)) == {"edit"}


def test_old_key_that_signs_after_a_new_one_is_told() -> None:
    log = Log(2, key=OTHER_KEY)
    for key in (KEY, OTHER_KEY, KEY):
        log.key = key
        log.add(entries(1, first=len(log.rows) + 1))
    report = log.verify(KEY, OTHER_KEY)
    assert report.status == FINE
    assert "entry 4 by key" in " ".join(report.warnings)


def test_verifier_needs_a_key() -> None:
    with pytest.raises(ValueError, match="no key"):
        Verifier(())


# --- parts, hostile rows, bounds --------------------------------------------------------------


@given(logs(), st.data())
@examples(20, full=1000)
def test_part_of_a_log_is_judged_entry_by_entry(log: Log, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from(range(len(log.rows))), min_size=1))
    log.rows = [log.rows[index] for index in sorted(kept)]
    assert log.verify(is_partial=True).status == FINE
    index = data.draw(st.integers(0, len(log.rows) - 1))
    row = log.rows[index]
    log.rows[index] = row._replace(entry=row.entry._replace(actor="x"))
    report = log.verify(is_partial=True)
    assert report.status != FINE
    assert ("edit", row.seq) in {(f.kind, f.seq) for f in report.findings}


@pytest.mark.parametrize(
    "hostile",
    [
        Row(3, Entry(1, b"x", "a", "", "", "", ""), GENESIS, GENESIS),  # type: ignore[arg-type]
        Row(3, Entry(1, None, "a", "", "", "", ""), GENESIS, GENESIS),  # type: ignore[arg-type]
        Row(3, Entry(1.5, "x", "a", "", "", "", ""), GENESIS, GENESIS),  # type: ignore[arg-type]
        Row(3, Entry(2**70, "x", "a", "", "", "", ""), GENESIS, GENESIS),
        Row(3, Entry(1, "\ud800", "a", "", "", "", ""), GENESIS, GENESIS),
        Row(3, entries(1)[0], "text", GENESIS),  # type: ignore[arg-type]
        Row(3, entries(1)[0], GENESIS, "text"),  # type: ignore[arg-type]
        Row(3, entries(1)[0], GENESIS, None),  # type: ignore[arg-type]
        Row("x", entries(1)[0], GENESIS, GENESIS),  # type: ignore[arg-type]
    ],
)
def test_row_of_wrong_kinds_is_an_edit(hostile: Row) -> None:
    log = Log(5, anchors=[5])
    log.rows[2] = hostile
    report = log.verify()
    assert "edit" in kinds(report)
    assert report.first_bad == 3


def test_findings_have_a_bound() -> None:
    log = Log(3 * MAX_FINDINGS)
    del log.rows[::2]
    report = log.verify()
    assert len(report.findings) == MAX_FINDINGS
    assert report.more > 0
    log = Log(1000)
    log.rows = [row._replace(mac=b"x" * 32) if row.seq > 1 else row for row in log.rows]
    (finding,) = log.verify().findings
    assert (finding.seq, finding.last) == (2, 1000)


@pytest.mark.parametrize(
    ("first", "words"), [(2, "gap: entry 2 is missing"), (1, "gap: entries 1 to 2 are missing")]
)
def test_finding_is_told_in_plain_words(first: int, words: str) -> None:
    log = Log(4, anchors=[4])
    del log.rows[first - 1 : 2]
    assert str(log.verify().findings[0]) == words


def test_two_histories_of_one_key_never_pass_as_one() -> None:
    """Every way to put two of them together is found without any anchor."""
    key = AuditKey(b"k" * 32)
    one = seal(EMPTY, entries(6), key)
    two = one[:2] + seal(Head(2, one[1].mac), entries(4, first=3, word="other"), key)
    for choice in range(1 << 4):
        rows = one[:2] + [(one, two)[choice >> n & 1][n + 2] for n in range(4)]
        verifier = Verifier((key,))
        for row in rows:
            verifier.take(row)
        report = verifier.report(Head(6, rows[-1].mac))
        assert (report.status == FINE) is (choice in (0, 0b1111))
        assert kinds(report) <= {"fork"}
