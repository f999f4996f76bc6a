"""`store`: where its file is, and `retention_days`: how long accounts are kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config import ConfigError, load, parse


def days(given: object) -> int | None:
    store = parse({"store": {"url": "sqlite:///x.db", "retention_days": given}}, {}).store
    assert store is not None
    return store.retention_days


def test_days() -> None:
    assert (days(None), days(90)) == (None, 90)


@pytest.mark.parametrize("given", [0, -1, 40_000, "soon"])
def test_what_is_no_number_of_days_is_refused(given: object) -> None:
    with pytest.raises(ConfigError, match="retention_days"):
        days(given)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("{}", "sqlite:///DIR/relay.db"),
        ("{url: 'sqlite:///relay.db'}", "sqlite:///DIR/relay.db"),
        ("{url: 'sqlite:///../a/b.db'}", "sqlite:///DIR/../a/b.db"),
        ("{url: 'sqlite:////var/lib/relay.db'}", "sqlite:////var/lib/relay.db"),
        ("{url: 'postgresql://db/relay'}", "postgresql://db/relay"),
    ],
)
def test_its_file_starts_from_the_folder_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, meant: str
) -> None:
    (tmp_path / "relay.yaml").write_text(f"store: {written}\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for path in (tmp_path / "relay.yaml", Path("../relay.yaml")):
        store = load(path).store
        assert store is not None
        assert store.url.get_secret_value() == meant.replace("DIR", str(path.parent))


def test_a_folder_that_no_address_can_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"store\.url: a folder with \?"):
        parse({"store": {}}, {}, folder=tmp_path / "what?")
