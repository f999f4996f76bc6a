"""The page on logs: its configuration is one, its commands run, its tables have what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from structlog.testing import capture_logs
from typer.testing import CliRunner

from relay.cli import app
from relay.config import LogsConfig, PayloadsConfig, parse
from relay.logs import _line
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer
from tests.fakes.virtual_time import on_virtual_time

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "logs.md").read_text()
SIZES = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def test_its_configuration_is_valid_and_its_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    section = parse(yaml.safe_load(text), folder=tmp_path).observability
    assert section.payloads is not None
    assert section.payloads.folder == str(tmp_path / "payloads")
    assert re.sub(section.redact[0], "***", "it is 123-45-6789.") == "it is ***."
    (tmp_path / "relay.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    check, serve = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0].splitlines()
    checked = CliRunner().invoke(app, check.split()[1:])
    assert checked.exit_code == 0, checked.output
    # Of the file that was checked; the shell makes the log.
    assert serve == f"{check.replace('check', 'serve')} 2>> relay.log"


@pytest.mark.parametrize(("part", "model"), [("logs", LogsConfig), ("payloads", PayloadsConfig)])
def test_its_tables_have_every_field(
    part: str, model: type[LogsConfig] | type[PayloadsConfig]
) -> None:
    table = PAGE.partition(f"| field of `{part}` |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \|", table, re.MULTILINE)
    assert [name for name, _ in rows] == list(model.model_fields)
    for name, shown in rows:
        number, _, unit = shown.partition(" ")
        if number.replace(".", "").isdigit():
            default = model.model_fields[name].default
            assert float(number) * SIZES.get(unit, 1) == default, name


@on_virtual_time
async def test_its_table_has_every_field_of_a_line() -> None:
    scenario = Scenario({"a": FakeEndpoint(chunks=answer("a"))})
    with capture_logs() as lines:
        await scenario.generate()
    await scenario.settled()
    (line,) = lines
    table = PAGE.partition("| field | |")[2].partition("\n\n")[0]
    told = {
        name
        for cell in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", cell)
    }
    assert told == {"level", "timestamp", *line.keys() - {"log_level"}}
    (of_attempts,) = re.findall(r"^\| `attempts` \| (.*) \|$", table, re.MULTILINE)
    assert re.findall(r"`(\w+)`", of_attempts) == list(line["attempts"][0])


def test_its_grep_finds_the_lines(tmp_path: Path) -> None:
    command = re.findall(r"```sh\n(grep.*?)\n```", PAGE, re.DOTALL)[0]
    pattern = re.findall(r"'(.*?)'", command)[0]
    written = _line(None, "info", {"id": "gen_1", "event": "generation"})
    assert pattern in written.decode()
