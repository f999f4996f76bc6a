"""The audit log as a file that can be verified by itself: JSON lines.

The first line is about the file: what was selected, and an anchor of the log's end at that moment,
so that a file whose end is missing is told from an older one. Then an entry a line, with its MACs;
`detail` is the text that was signed.

    {"rtrelay_audit":1,"time":"...","selection":{},"anchor":{...}}
    {"seq":1,"time":"...","at_us":...,"actor":"...",...,"detail":"{}","previous":"...","mac":"..."}

Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from relay.governance.audit_anchor import from_line, moment, to_line
from relay.governance.audit_chain import Anchor, Entry, Row

_MARK: Final = "rtrelay_audit"


class Header(NamedTuple):
    """What the first line says."""

    at_us: int
    selection: Mapping[str, Any]
    """What was asked for; empty: everything."""
    anchor: Anchor | None
    """Of the log's end; None of an empty log."""


class NoExport(Exception):
    """The file is none of these; the message says where."""


def header_line(header: Header) -> bytes:
    """The first line, without its end."""
    said = {"time": moment(header.at_us), "at_us": header.at_us, "selection": header.selection}
    line = orjson.dumps({_MARK: 1, **said})[:-1]
    anchor = b"null" if header.anchor is None else to_line(header.anchor)
    return line + b',"anchor":' + anchor + b"}"


def read_header(line: bytes) -> Header:
    """
    Raises:
        NoExport
    """
    try:
        fields = orjson.loads(line)
        if fields[_MARK] != 1 or type(fields["at_us"]) is not int:
            raise NoExport("the file is of another version")
        selection, said = fields["selection"], fields["anchor"]
        anchor = None if said is None else from_line(orjson.dumps(said))
    except (ValueError, TypeError, KeyError) as error:
        raise NoExport("the file does not begin as an export of the audit log does") from error
    if not isinstance(selection, dict) or (said is not None and anchor is None):
        raise NoExport("the file's first line is damaged")
    return Header(fields["at_us"], selection, anchor)


def row_line(row: Row) -> bytes:
    """An entry's line, without its end; of one that somebody has spoilt too."""
    entry = row.entry
    said: dict[str, Any] = {"seq": row.seq, "time": _time(entry.at_us), **entry._asdict()}
    said["previous"] = _hex(row.previous)
    said["mac"] = _hex(row.mac)
    try:
        return orjson.dumps(said)
    except TypeError:  # texts that are no UTF-8, values that are no JSON
        return json.dumps(said, default=repr).encode()


def read_row(line: bytes) -> Row:
    """What a line says, whatever the kinds of its values: a verifier finds those that are wrong.

    Raises:
        NoExport: it is no JSON object of an entry.
    """
    try:
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError:
            fields = json.loads(line)  # half a surrogate pair, of a text that is no UTF-8
        entry = Entry(*(fields[name] for name in Entry._fields))
        if fields["time"] != _time(entry.at_us):
            entry = entry._replace(detail="")  # the moment that people read was changed
        return Row(fields["seq"], entry, _bytes(fields["previous"]), _bytes(fields["mac"]))
    except (ValueError, TypeError, KeyError) as error:
        raise NoExport("the line is no entry") from error


def _time(at_us: object) -> str:
    try:
        return moment(at_us)  # type: ignore[arg-type]
    except (TypeError, OverflowError):
        return ""


def _hex(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else repr(value)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""
