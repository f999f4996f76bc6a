"""`relay emulate`: what is wrong with its file is said in a line, and nothing is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from relay.cli import app
from relay.emulator.main import main


def said(path: Path) -> list[str]:
    """What the command says of a file that it refuses."""
    shown = CliRunner().invoke(app, ["emulate", "-c", str(path)])
    assert shown.exit_code == 1
    assert shown.stdout == ""
    lines = shown.stderr.removeprefix("relay: ").splitlines()
    assert lines
    return lines


def test_file_that_is_not_there(tmp_path: Path) -> None:
    assert said(tmp_path / "none.yaml") == ["cannot read none.yaml: No such file or directory"]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("port: 0\nmodels: {a: [1\n", ["e.yaml is no valid YAML in line 3"]),
        ("a\0b", ["e.yaml is no valid YAML"]),
        ("- port", ["e.yaml holds no mapping of keys"]),
        ("prot: 1", ["prot: unknown key; did you mean 'port'?"]),
        ("colour: red", ["colour: unknown key"]),
        (
            "port: many\nmax_concurrent_stream: 5",
            [
                "port: Input should be a valid integer, unable to parse string as an integer",
                "max_concurrent_stream: unknown key; did you mean 'max_concurrent_streams'?",
            ],
        ),
        (
            "models: {greeter: 7}",
            [
                "models.greeter: Input should be a valid string,"
                " or: Input should be a valid dictionary"
            ],
        ),
        ("models: {greeter: {tfft: 5}}", ["models.greeter: unknown parameter 'tfft'"]),
        (
            "models: {a: 'ttft=1', b: 'fault=boom'}",
            ["models.b: fault=boom: unknown fault 'boom'"],
        ),
        (
            "distributions: {quick: '1..2', odd: 'soon'}\nmodels: {a: {ttft: '@slow'}}",
            [
                "distributions.odd: could not convert string to float: 'soon'",
                "models.a: ttft=@slow: no distribution named 'slow'",
            ],
        ),
    ],
)
def test_faults_of_the_file_are_named(tmp_path: Path, text: str, lines: list[str]) -> None:
    path = tmp_path / "e.yaml"
    path.write_text(text)
    assert said(path) == lines


def test_the_module_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["-c", str(tmp_path / "none.yaml")])
    assert caught.value.code == 2
    expected = "relay.emulator: cannot read none.yaml: No such file or directory\n"
    assert tuple(capsys.readouterr()) == ("", expected)
