"""`relay audit`: what is found is said plainly, with a status; what is looked at stays as it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from relay.auditing import store_of
from relay.cli import app
from relay.commands.moments import moment_us
from relay.config import load
from relay.governance.audit_chain import AuditKey, Head, entry, seal
from relay.store.engine import engine_for, migrate
from tests.fakes.audit_logs import START_US, entries

KEY = "0123456789abcdefghijklmnopqrstuvwxyz"
OTHER_KEY = "zyxwvutsrqponmlkjihgfedcba9876543210"


class Place:
    """A folder with a configuration, a store and what `relay audit` does with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "relay.yaml"
        self.database = folder / "relay.db"
        self.anchor = folder / "audit.anchor"
        self.write(key=KEY)

    def write(self, **audit: object) -> None:
        (self.folder / "key").write_text(str(audit.pop("key", KEY)))
        document = {
            "store": {"url": f"sqlite:///{self.database}"},
            "audit": {"key": "${file:key}", **audit},
        }
        self.config.write_text(yaml.safe_dump(document))

    def add(self, count: int, first: int = 1) -> Head:
        config = load(self.config)
        engine = engine_for(f"sqlite:///{self.database}")
        try:
            return store_of(config, engine).write(entries(count, first=first))
        finally:
            engine.dispose()

    def run(self, command: str, *arguments: str, status: int = 0) -> Result:
        whole = ["audit", command, "-c", str(self.config), *arguments]
        ran = CliRunner().invoke(app, whole, env={"COLUMNS": "200"})
        assert ran.exit_code == status, ran.output
        return ran

    def tamper(self, *statements: str) -> None:
        with closing(sqlite3.connect(self.database)) as database, database:
            for statement in statements:
                database.execute(statement)

    def restamp(self, seq: int, count: int) -> None:
        """As somebody with the key and the database would: other entries from there on."""
        with closing(sqlite3.connect(self.database)) as database, database:
            database.execute("DELETE FROM audit WHERE seq >= ?", (seq,))
            (mac,) = database.execute("SELECT mac FROM audit WHERE seq = ?", (seq - 1,)).fetchone()
            more = entries(count, first=seq, word="forged")
            rows = seal(Head(seq - 1, mac), more, AuditKey.from_text(KEY))
            for row in rows:
                values = (row.seq, *row.entry, row.previous, row.mac)
                database.execute(f"INSERT INTO audit VALUES ({','.join('?' * 10)})", values)
            last = (rows[-1].seq, rows[-1].mac)
            database.execute("UPDATE audit_head SET seq = ?, mac = ?", last)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with our tables, to be copied."""
    file = tmp_path_factory.mktemp("empty") / "relay.db"
    engine = engine_for(f"sqlite:///{file}")
    migrate(engine)
    engine.dispose()
    with closing(sqlite3.connect(file)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return file


@pytest.fixture
def place(tmp_path: Path, empty: Path) -> Place:
    shutil.copy(empty, tmp_path / "relay.db")
    return Place(tmp_path)


# --- verify -----------------------------------------------------------------------------------


def test_whole_log_is_fine(place: Place) -> None:
    place.add(5)
    assert "entries 1 to 5 anchored at" in place.run("checkpoint").output
    assert place.run("checkpoint").output == "nothing new\n"
    assert place.run("verify").output.splitlines() == [
        "the audit log is as it was written",
        "5 entries, entries 1 to 5",
        "1 anchors agree, the last with entry 5",
    ]
    place.add(2, first=6)
    assert "warning: not anchored yet: entries 6 to 7" in place.run("verify").output


Tamper = Callable[[Place], None]


def _sql(*statements: str) -> Tamper:
    return lambda place: place.tamper(*statements)


def _older_copy_goes_on(place: Place) -> None:
    place.restamp(6, 7)


ACTS: Sequence[tuple[str, Tamper, str, int]] = (
    ("edit", _sql("UPDATE audit SET actor = 'key:nobody' WHERE seq = 4"), "edit: entry 4 was", 4),
    ("drop", _sql("DELETE FROM audit WHERE seq = 4"), "gap: entry 4 is missing", 4),
    (
        "cut",
        _sql("DELETE FROM audit WHERE seq > 7"),
        "truncation: entries 8 to 9 are missing at the end: the head counts 9",
        8,
    ),
    (
        "cut with its head",
        _sql(
            "DELETE FROM audit WHERE seq > 7",
            "UPDATE audit_head SET seq = 7, mac = (SELECT mac FROM audit WHERE seq = 7)",
        ),
        "truncation: entries 8 to 9 are missing at the end: an anchor has counted 9",
        8,
    ),
    (
        "swap",
        _sql(
            "UPDATE audit SET seq = 100 WHERE seq = 3",
            "UPDATE audit SET seq = 3 WHERE seq = 6",
            "UPDATE audit SET seq = 6 WHERE seq = 100",
        ),
        "edit: entry 3 was changed or put in",
        3,
    ),
    (
        "restamp",
        lambda place: place.restamp(6, 4),
        "fork: entries 6 to 9 are not what an anchor",
        6,
    ),
    ("older copy that went on", _older_copy_goes_on, "fork: entries 6 to 9 are not what", 6),
)


@pytest.mark.parametrize(("name", "act", "said", "first"), ACTS, ids=[act[0] for act in ACTS])
def test_what_was_done_is_named(
    place: Place, name: str, act: Tamper, said: str, first: int
) -> None:
    place.add(5)
    place.run("checkpoint")
    place.add(4, first=6)
    place.run("checkpoint")
    act(place)
    told = place.run("verify", status=1).output
    assert said in told, name
    assert f"first with entry {first}" in told.splitlines()[0]
    found = json.loads(place.run("verify", "--json", status=1).output)
    assert (found["status"], found["first_bad"]) == (1, first)
    assert found["findings"][0]["kind"] == said.partition(":")[0]


def test_log_that_lost_entries_is_not_anchored_again(place: Place) -> None:
    place.add(5)
    place.run("checkpoint")
    place.restamp(3, 1)
    told = place.run("checkpoint", status=1).output
    assert "has 3 entries, and 5 were anchored" in told


def test_wrong_key_cannot_verify(place: Place) -> None:
    place.add(5)
    place.run("checkpoint")
    place.write(key=OTHER_KEY)
    told = place.run("verify", status=2).output
    assert told.startswith("cannot verify the audit log: no entry matches the key")
    assert "edit" not in told


def test_old_key_verifies_what_it_has_signed(place: Place) -> None:
    place.write(key=OTHER_KEY)
    place.add(3)
    (place.folder / "old").write_text(OTHER_KEY)
    place.write(key=KEY, old_keys=["${file:old}"])
    place.add(2, first=4)
    place.run("checkpoint")
    told = place.run("verify").output
    assert "entries 1 to 3" in told
    assert "entries 4 to 5" in told


def test_anchors_that_were_taken_away_are_missed(place: Place) -> None:
    place.add(5)
    place.run("checkpoint")
    place.anchor.unlink()
    assert "there is no file" in place.run("verify", status=2).output
    assert "warning: no anchors" in place.run("verify", "--no-anchors").output
    place.anchor.touch()
    assert "warning: no anchors" in place.run("verify").output


def test_database_is_not_changed_by_looking(place: Place) -> None:
    place.add(5)
    place.run("checkpoint")
    copy = place.folder / "copy.db"
    with closing(sqlite3.connect(place.database)) as one, closing(sqlite3.connect(copy)) as other:
        one.backup(other)
    before = copy.read_bytes()
    assert "5 entries" in place.run("verify", "--database", str(copy)).output
    assert "fast-5" in place.run("list", "--database", str(copy)).output
    assert copy.read_bytes() == before
    assert "unable to open" in place.run("verify", "--database", "/nowhere.db", status=2).output


# --- exports ----------------------------------------------------------------------------------


def test_export_is_verified_by_itself(place: Place) -> None:
    place.add(5)
    place.run("checkpoint")
    file = place.folder / "log.jsonl"
    place.run("export", "-o", str(file))
    place.add(4, first=6)
    place.run("checkpoint")  # later anchors say nothing of it
    told = place.run("verify", "--file", str(file)).output
    assert told.splitlines()[0] == "the export log.jsonl is as it was written"
    assert "exists" in place.run("export", "-o", str(file), status=1).output

    lines = file.read_bytes().splitlines(keepends=True)
    for spoil, kind in (
        (lines[:-1], "truncation: entry 5 is missing at the end"),
        ([*lines[:2], *lines[3:]], "gap: entry 2 is missing"),
        ([*lines[:3], lines[4], lines[3], lines[5]], "order: entry 3"),
        ([*lines[:3], lines[2], *lines[3:]], "order: entry 2"),
        ([*lines[:3], lines[3].replace(b"fast-3", b"slow-3"), *lines[4:]], "edit: entry 3"),
        ([*lines[:3], lines[3].replace(b'"time":"2', b'"time":"3'), *lines[4:]], "edit: entry 3"),
    ):
        file.write_bytes(b"".join(spoil))
        assert kind in place.run("verify", "--file", str(file), status=1).output
    for spoil, why in (
        (lines[1:], "does not begin as an export"),
        ([lines[0].replace(b'"seq"', b'"sex"'), *lines[1:]], "first line is damaged"),
        ([*lines[:2], b"{}\n"], "line 3: the line is no entry"),
        ([], "does not begin"),
    ):
        file.write_bytes(b"".join(spoil))
        assert why in place.run("verify", "--file", str(file), status=2).output


def test_export_of_an_empty_log_is_fine_and_entries_need_an_anchor(place: Place) -> None:
    file = place.folder / "log.jsonl"
    place.run("export", "-o", str(file))
    assert "as it was written" in place.run("verify", "--file", str(file), "--no-anchors").output
    place.add(1)
    other = place.folder / "other.jsonl"
    place.run("export", "-o", str(other))
    file.write_bytes(file.read_bytes() + other.read_bytes().splitlines(keepends=True)[1])
    told = place.run("verify", "--file", str(file), "--no-anchors", status=2).output
    assert "no anchor of its own" in told


def test_export_of_chosen_entries_is_judged_one_by_one(place: Place) -> None:
    place.add(6)
    file = place.folder / "some.jsonl"
    place.run("export", "--actor", "key:key_1", "-o", str(file))
    assert len(file.read_bytes().splitlines()) == 3
    assert "--partial" in place.run("verify", "--no-anchors", "--file", str(file), status=2).output
    arguments = ("verify", "--no-anchors", "--partial", "--file", str(file))
    assert "whether entries are missing is not looked at" in place.run(*arguments).output
    file.write_bytes(file.read_bytes().replace(b"fast-4", b"fast-5"))
    assert "edit: entry 4" in place.run(*arguments, status=1).output


def test_that_it_was_exported_is_told(place: Place) -> None:
    place.add(2)
    file = place.folder / "log.jsonl"
    place.run("export", "--actor", "key:key_1", "-o", str(file))
    place.run("export", "-o", str(file), status=1)
    place.run("export", "--database", str(place.database))
    listed = place.run("list", "--action", "audit.exported", "--json").stdout
    (told,) = [json.loads(line) for line in listed.splitlines()]
    assert told["actor"].startswith("cli:")
    assert json.loads(told["detail"]) == {"selection": {"actor": "key:key_1"}}
    assert b"audit.exported" not in file.read_bytes()
    assert "as it was written" in place.run("verify", "--no-anchors").output


def test_nothing_is_handed_out_that_cannot_be_told(place: Place) -> None:
    place.add(2)
    place.tamper(
        "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(FAIL, 'no room'); END"
    )
    assert '"seq"' not in place.run("export", status=1).output


def test_export_is_printed_where_no_file_is_named(place: Place) -> None:
    place.add(2)
    lines = [json.loads(line) for line in place.run("export").stdout.splitlines()]
    assert lines[0]["rtrelay_audit"] == 1
    assert [line["seq"] for line in lines[1:]] == [1, 2]
    assert json.loads(lines[1]["detail"]) == {"number": 1, "reason": "SCOPE"}


def test_spoilt_entries_are_exported_and_found_there(place: Place) -> None:
    place.add(3)
    place.tamper(
        "UPDATE audit SET actor = CAST(x'ff41' AS TEXT) WHERE seq = 2",
        "UPDATE audit SET mac = 7 WHERE seq = 3",
    )
    file = place.folder / "log.jsonl"
    place.run("export", "-o", str(file))
    told = place.run("verify", "--no-anchors", "--file", str(file), status=1).output
    assert "edit: entries 2 to 3" in told
    assert place.run("list").output


# --- list -------------------------------------------------------------------------------------


def test_list_shows_the_newest_last(place: Place) -> None:
    place.add(9)
    shown = place.run("list", "--limit", "2").output
    assert shown.index("fast-8") < shown.index("fast-9")
    assert "fast-7" not in shown
    assert '{"number":9,"reason":"SCOPE"}' in shown
    rows = [json.loads(line) for line in place.run("list", "--json").output.splitlines()]
    assert [row["seq"] for row in rows] == list(range(1, 10))
    assert place.run("list", "--action", "admin.*").output == "no entries\n"
    assert "fast-2" in place.run("list", "--organisation", "org_a", "--outcome", "denied").output


def test_list_does_nothing_to_a_terminal(place: Place) -> None:
    place.add(1)
    place.tamper("UPDATE audit SET subject = char(27) || '[2J[bold]' || char(10)")
    shown = place.run("list").output
    assert "\x1b" not in shown
    assert "[2J[bold]" in shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", -90),
        ("30m", -1800),
        ("24h", -86_400),
        ("7d", -604_800),
        ("1970-01-01", None),
        ("2026-11-27T08:30", None),
        ("2026-11-27T09:30+01:00", None),
        ("2026-11-27T08:30:00Z", None),
    ],
)
def test_moments_are_read(text: str, seconds: int | None) -> None:
    found = moment_us(text, START_US)
    if seconds is not None:
        assert found == START_US + seconds * 1_000_000
    else:
        assert found == (0 if text.startswith("1970") else 1_795_768_200_000_000)


@pytest.mark.parametrize("text", ["", "soon", "5y", "-3h", "2026-13-01"])
def test_other_moments_are_refused(place: Place, text: str) -> None:
    with pytest.raises(ValueError, match="is no moment"):
        moment_us(text, START_US)
    assert "is no moment" in place.run("list", "--since", text, status=1).output


# --- what is in the way -----------------------------------------------------------------------


def test_configuration_without_audit_is_told(place: Place) -> None:
    place.config.write_text("store: {}\n")
    for command in ("list", "checkpoint", "export"):
        assert "nothing is audited" in place.run(command, status=1).output
    assert "nothing is audited" in place.run("verify", status=2).output


def test_no_secret_is_printed(place: Place) -> None:
    place.add(2)
    place.run("checkpoint")
    for command in ("list", "verify", "checkpoint"):
        assert KEY not in place.run(command).output
    file = place.folder / "log.jsonl"
    place.run("export", "-o", str(file))
    for path in (file, place.anchor, place.database):
        assert KEY.encode() not in path.read_bytes()


def test_entry_with_odd_texts_survives_an_export(place: Place) -> None:
    config = load(place.config)
    engine = engine_for(f"sqlite:///{place.database}")
    odd = "é\u202e\U0001f4de\x00\n\"\\'"
    store_of(config, engine).write([entry("a.b", at_us=-1, actor=odd, detail={odd: odd, "n": 1.5})])
    engine.dispose()
    file = place.folder / "log.jsonl"
    place.run("export", "-o", str(file))
    place.run("verify", "--no-anchors", "--file", str(file))
