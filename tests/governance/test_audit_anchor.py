"""The file of anchors: what is written is read again, by several writers, after a crash too."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.governance import audit_anchor
from relay.governance.audit_anchor import (
    MAX_LINE_BYTES,
    AnchorError,
    AnchorFile,
    from_line,
    moment,
    read,
    to_line,
)
from relay.governance.audit_chain import EMPTY, Anchor, AuditKey, Head
from relay.governance.audit_checkpoint import AnchorRefused, Checkpoint
from tests.fakes.audit_logs import KEY, OTHER_KEY, START_US, Log, entries
from tests.fakes.properties import examples


class Memory:
    """A log as a checkpoint asks it."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def head(self) -> Head:
        return self.log.head

    def mac_of(self, seq: int) -> bytes | None:
        return self.log.rows[seq - 1].mac if seq <= len(self.log.rows) else None


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.anchor"


def anchors(path: Path) -> list[Anchor | None]:
    return [line.anchor for line in read(path).lines]


def checkpoint(log: Log, path: Path, key: AuditKey = KEY) -> Checkpoint:
    return Checkpoint(Memory(log), AnchorFile(path, [key]), key)


# --- lines ------------------------------------------------------------------------------------


@given(st.integers(0, 2**52), st.integers(1, 2**63 - 1), st.binary(min_size=32, max_size=32))
@examples(50, full=2000)
def test_line_is_read_as_it_was_written(at_us: int, seq: int, mac: bytes) -> None:
    anchor = Anchor.of(Head(seq, mac), at_us, KEY)
    assert from_line(to_line(anchor)) == anchor
    assert from_line(b"<86>Nov 27 08:30:00 host rtrelay: " + to_line(anchor) + b"\n") == anchor


@given(st.binary(max_size=100))
@examples(50, full=2000)
def test_any_other_line_is_none(data: bytes) -> None:
    assert from_line(data) is None
    assert from_line(b'{"rtrelay_anchor":1,' + data) is None


def test_moment_that_people_read_is_the_one_that_is_signed() -> None:
    line = to_line(Anchor.of(Head(1, b"m" * 32), START_US, KEY))
    assert from_line(line.replace(moment(START_US).encode(), moment(0).encode())) is None


@pytest.mark.parametrize("seq", [b'"1"', b"null", b"[]", b"1.0", b"true"])
def test_number_that_is_none(seq: bytes) -> None:
    line = to_line(Anchor.of(Head(1, b"m" * 32), START_US, KEY))
    assert from_line(line.replace(b'"seq":1', b'"seq":' + seq)) is None


# --- the file -----------------------------------------------------------------------------------


def test_checkpoint_adds_what_is_new(path: Path) -> None:
    log = Log()
    run = checkpoint(log, path).run
    assert run(START_US) is None  # an empty log
    log.add(entries(3))
    first = run(START_US)
    assert first is not None
    assert first.seq == 3
    assert run(START_US + 1) is None  # nothing new
    log.add(entries(2, first=4))
    second = run(START_US + 2)
    assert anchors(path) == [first, second]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("left", [0, 2])
def test_log_that_lost_entries_is_not_anchored(path: Path, left: int) -> None:
    log = Log(5)
    checkpoint(log, path).run(START_US)
    log.rewrite(left, [])
    with pytest.raises(AnchorRefused, match=f"has {left} entries, and 5 were anchored"):
        checkpoint(log, path).run(START_US)
    assert len(anchors(path)) == 1


def test_log_with_another_history_is_not_anchored(path: Path) -> None:
    log = Log(5)
    checkpoint(log, path).run(START_US)
    log.rewrite(2, entries(6, first=3, word="again"))
    with pytest.raises(AnchorRefused, match="entry 5 of the audit log is not as anchored"):
        checkpoint(log, path).run(START_US)


def test_lines_of_others_do_not_keep_us_from_going_on(path: Path) -> None:
    """Nor do they make us anchor less: a forged count would be a way to stop anchoring."""
    log = Log(3)
    checkpoint(log, path).run(START_US)
    forged = Anchor.of(Head(9, b"x" * 32), START_US, OTHER_KEY)._replace(key_id=KEY.id)
    with path.open("ab") as file:
        file.write(to_line(forged) + b"\nnoise\n")
    log.add(entries(1, first=4))
    assert checkpoint(log, path).run(START_US) is not None
    assert [None if one is None else one.seq for one in anchors(path)] == [3, 9, None, 4]


def test_new_key_goes_on_from_the_anchors_of_the_old_one(path: Path) -> None:
    log = Log(3)
    checkpoint(log, path, OTHER_KEY).run(START_US)
    assert checkpoint(log, path).run(START_US) is None
    log.rewrite(1, entries(4, first=2, word="x"))
    with pytest.raises(AnchorRefused):
        checkpoint(log, path).run(START_US)


def test_torn_line_is_left_behind(path: Path) -> None:
    log = Log(3)
    checkpoint(log, path).run(START_US)
    whole = path.read_bytes()
    log.add(entries(1, first=4))
    for cut in (1, 20, len(whole) - 1):
        path.write_bytes(whole + whole[:cut])
        lines = list(read(path).lines)
        assert lines[1].is_torn is (lines[1].anchor is None) is True or cut == len(whole) - 1
        assert checkpoint(log, path).run(START_US) is not None
        assert [one.seq for one in anchors(path) if one is not None][-1] == 4


def test_file_is_read_no_further_than_it_went(path: Path) -> None:
    log = Log(3)
    checkpoint(log, path).run(START_US)
    source = read(path)
    log.add(entries(1, first=4))
    checkpoint(log, path).run(START_US)
    assert len(list(source.lines)) == 1
    assert len(anchors(path)) == 2


def test_line_without_end_has_a_bound(path: Path) -> None:
    path.write_bytes(b"x" * (5 * MAX_LINE_BYTES) + b"\n" + b"y\n")
    assert [(line.number, line.anchor) for line in read(path).lines] == [(1, None), (2, None)]


def test_two_writers_never_go_back(path: Path) -> None:
    """Each looks at the end and anchors it: the slower one must not write the older count after."""
    log = Log(1)
    lock = threading.Lock()

    def work() -> None:
        run = checkpoint(log, path).run
        for _ in range(30):
            with lock:
                log.add(entries(1, first=len(log.rows) + 1))
            run(START_US)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [one.seq for one in anchors(path) if one is not None]
    assert found == sorted(set(found))
    assert found[-1] == 91


def test_file_that_somebody_holds_is_not_waited_for_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_anchor, "LOCK_WAIT_S", 0.05)
    path.touch()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(AnchorError, match="cannot be locked"):
            checkpoint(Log(1), path).run(START_US)


def test_full_disk_is_told() -> None:
    with pytest.raises(AnchorError, match="No space left"):
        checkpoint(Log(1), Path("/dev/full")).run(START_US)


def test_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(AnchorError, match="No such file"):
        checkpoint(Log(1), tmp_path / "nowhere" / "a").run(START_US)
    with pytest.raises(AnchorError, match="No such file"):
        read(tmp_path / "a")


def test_second_place_gets_the_line_after_the_file(path: Path) -> None:
    told: list[bytes] = []

    def tell(line: bytes) -> None:
        told.append(line)
        assert path.read_bytes() == line + b"\n"
        raise AnchorError("syslog: gone")

    log = Log(2)
    with pytest.raises(AnchorError, match="gone"):
        Checkpoint(Memory(log), AnchorFile(path, [KEY]), KEY, tell).run(START_US)
    assert log.head != EMPTY
    assert len(told) == len(anchors(path)) == 1
