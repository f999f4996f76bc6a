"""What h2load prints and logs, read. Pure functions over its text.

The summary is of nghttp2 1.52; older ones differ in the lines that are not read here. The log has a
line a finished answer: its start in microseconds of the wall clock, its status, microseconds to its
end (`--log-file`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_REQUESTS = re.compile(
    r"^requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded,"
    r" (\d+) failed, (\d+) errored, (\d+) timeout$",
    re.MULTILINE,
)
_CODES = re.compile(r"^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$", re.MULTILINE)
_TRAFFIC = re.compile(r"^traffic: .*\((\d+)\) total, .*\((\d+)\) headers.*\((\d+)\) data$", re.M)
_PROTOCOL = re.compile(r"^Application protocol: (\S+)$", re.MULTILINE)
_VERSION = re.compile(r"nghttp2/(\d+(?:\.\d+)*)")


class OutputError(ValueError):
    """It is not what h2load prints; the message has its end."""


class Summary(NamedTuple):
    """The end of its output."""

    started: int
    """Requests; those that were under way when the time was over are in no other count."""
    done: int
    failed: int
    """Failed, of a broken connection, or timed out; counted by h2load as three."""
    not_2xx: int
    data_bytes: int
    """Of all bodies, without framing."""
    protocol: str
    """Such as `h2`, `h2c`, `http/1.1`; empty if no connection came about."""


class Finished(NamedTuple):
    """One answer."""

    start_us: int
    """Of the wall clock."""
    status: int
    """-1: the stream failed."""
    took_us: int

    @property
    def end_us(self) -> int:
        """Of the wall clock."""
        return self.start_us + self.took_us


def summary(text: str) -> Summary:
    """Of all that it printed.

    Raises:
        OutputError: there is no summary.
    """
    requests, codes = _REQUESTS.search(text), _CODES.search(text)
    traffic, protocol = _TRAFFIC.search(text), _PROTOCOL.search(text)
    if requests is None or codes is None or traffic is None:
        raise OutputError(f"no summary of h2load's: {text.strip()[-300:]!r}")
    _, started, done, _, failed, errored, timed_out = map(int, requests.groups())
    return Summary(
        started,
        done,
        failed + errored + timed_out,
        sum(map(int, codes.groups()[1:])),
        int(traffic[3]),
        protocol[1] if protocol else "",
    )


def finished(lines: Iterable[str]) -> list[Finished]:
    """Of its log, in the order of their ends.

    Raises:
        OutputError: a line is none of its log. One that was cut at the end is left out.
    """
    found: list[Finished] = []
    for line in lines:
        if not line.endswith("\n"):
            break
        columns = line.split("\t")
        try:
            found.append(Finished(int(columns[0]), int(columns[1]), int(columns[2])))
        except (ValueError, IndexError) as error:
            raise OutputError(f"no line of h2load's log: {line[:100]!r}") from error
    return sorted(found, key=lambda each: each.end_us)


def version(text: str) -> str:
    """Of `h2load --version`; empty if it is none."""
    match = _VERSION.search(text)
    return match[1] if match else ""
