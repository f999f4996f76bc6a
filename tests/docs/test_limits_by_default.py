"""The page on default limits names tests and settings that are there, and says the defaults."""

from __future__ import annotations

import re
from pathlib import Path

from relay.config import parse

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "limits-by-default.md"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if row[0] != "bound"]


def test_every_bound_has_its_tests() -> None:
    assert len(rows()) >= 24
    for bound, _, _, named in rows():
        found = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", named)
        assert found, bound
        for path, name in found:
            text = (ROOT / path).read_text()
            assert re.search(rf"^\s*(?:async )?(?:def|class) {name or 'test_'}", text, re.M), path


def test_settings_are_there_and_have_the_defaults_that_are_said() -> None:
    config = parse({"tls": None})
    said = {
        "server.grpc.max_streams": 1000,
        "server.grpc.max_connections": 16_384,
        "server.grpc.max_request_bytes": 4 << 20,
        "server.grpc.session_idle_ms": 600_000,
        "server.grpc.max_live_generations": 8,
        "server.http.max_connections_per_address": None,
        "server.http.max_request_bytes": 8 << 20,
        "server.slow_consumer_ms": 30_000,
        "server.lane_bytes": 65_536,
    }
    named = {path for row in rows() for path in re.findall(r"`(server\.[\w.]+)`", row[2])}
    assert named == {*said, "server.overload"}
    for path, value in said.items():
        found: object = config
        for part in path.split("."):
            found = getattr(found, part)
        assert found == value, path


def test_the_page_on_overload_shows_the_defaults() -> None:
    text = (ROOT / "docs" / "overload.md").read_text()
    shown = dict(re.findall(r"^    (\w+): (\w+) ", text, re.M))
    fields = parse({}).server.overload.model_dump()
    assert shown == {
        name: "null" if value is None else str(value) for name, value in fields.items()
    }
