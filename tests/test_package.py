"""What a wheel takes along: pyproject.toml's globs cover the pages' files, and files of others are
those that were published, with their licence."""

from __future__ import annotations

import hashlib
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
RELAY: Final = ROOT / "relay"
PAGES: Final = RELAY / "observability" / "pages"
VENDORED: Final = PAGES / "vendored"
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def files_of(folder: Path) -> set[Path]:
    """All below it that are no code and nothing that Python made."""
    return {
        path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and path.name != ".DS_Store"
    }


def packed() -> set[Path]:
    """As setuptools reads `package-data`: globs from the package's folder."""
    globs = PROJECT["tool"]["setuptools"]["package-data"]["relay"]
    return {path for glob in globs for path in RELAY.glob(glob) if path.is_file()}


@pytest.mark.parametrize("folder", [PAGES / "static", VENDORED], ids=lambda path: path.name)
def test_every_file_of_the_pages_is_packed(folder: Path) -> None:
    there = files_of(folder)
    assert there
    assert sorted(there - packed()) == []


def test_each_glob_finds_something() -> None:
    for glob in PROJECT["tool"]["setuptools"]["package-data"]["relay"]:
        assert any(path.is_file() for path in RELAY.glob(glob)), glob


def test_nothing_that_is_no_code_stays_behind() -> None:
    told = {path.relative_to(ROOT).as_posix() for path in files_of(RELAY) - packed()}
    assert told == set()


def test_vendored_files_are_those_that_were_published() -> None:
    told = re.findall(
        r"^([0-9a-f]{64})  (\S+)$", (VENDORED / "README.md").read_text("utf-8"), re.MULTILINE
    )
    there = {path.relative_to(VENDORED).as_posix() for path in files_of(VENDORED)}
    assert {name for _, name in told} == {
        name for name in there if name != "README.md" and not name.endswith("/LICENSE")
    }
    for digest, name in told:
        assert hashlib.sha256((VENDORED / name).read_bytes()).hexdigest() == digest, name


def test_licences_of_others_go_along() -> None:
    wanted = {"LICENSE"} | {
        path.relative_to(ROOT).as_posix() for path in VENDORED.rglob("LICENSE*") if path.is_file()
    }
    assert set(PROJECT["project"]["license-files"]) == wanted
    for folder in (path for path in VENDORED.iterdir() if path.is_dir()):
        assert (folder / "LICENSE").is_file(), folder.name
