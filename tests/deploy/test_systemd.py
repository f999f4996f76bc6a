"""The unit: by its own words, and by systemd's checks where they are installed. It was not run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import CLOSE_S, DEPLOY, drain_s, secret_names

UNIT = DEPLOY / "systemd" / "rtrelay.service"
MAX_EXPOSURE = 2.0
"""Of 10; what `systemd-analyze security` calls OK ends at 4.9."""

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def settings(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)


def only(name: str) -> str:
    [value] = settings(name)
    return value


def test_it_may_drain() -> None:
    assert int(only("TimeoutStopSec")) >= drain_s("systemd/relay.yaml") + CLOSE_S
    assert only("KillMode") == "mixed"


def test_it_is_supervised() -> None:
    assert only("Type") == "notify"
    assert only("Restart") == "on-failure"
    assert int(only("WatchdogSec")) >= 10
    assert only("ExecReload") == "/bin/kill -HUP $MAINPID"


def test_secrets_are_its_credentials() -> None:
    loaded = {value.partition(":")[0] for value in settings("LoadCredential")}
    assert loaded == secret_names("systemd/relay.yaml")
    assert UNIT.name == "rtrelay.service"  # whose credentials the configuration names
    assert not settings("Environment")


def test_what_it_writes_is_its_own() -> None:
    assert only("StateDirectory") == "rtrelay"
    text = (DEPLOY / "systemd" / "relay.yaml").read_text("utf-8")
    assert "sqlite:////var/lib/rtrelay/" in text
    assert (only("ProtectSystem"), only("DynamicUser")) == ("strict", "yes")


@needs_systemd
def test_systemd_takes_it(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    text = UNIT.read_text("utf-8")
    copy.write_text(text.replace("/opt/rtrelay/bin/relay", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@needs_systemd
def test_it_is_as_closed_as_it_says() -> None:
    done = subprocess.run(
        [
            *("systemd-analyze", "security", "--offline=true", "--no-pager"),
            *(f"--threshold={round(10 * MAX_EXPOSURE)}", str(UNIT)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
