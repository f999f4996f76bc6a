"""The files of `deploy/`, and what several of them must agree on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from relay.config import Config, load
from relay.config.aliases import TIMEOUT_CLASSES_MS
from relay.config.whole import RESERVED_KEYS

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CLOSE_S = 10
"""A worker takes no longer to close listeners, accounts and connections once nothing runs."""

STATE = "/var/lib/rtrelay"
"""The one folder that may be written to."""
_FOLDERS = ("/run/secrets", "/run/credentials/rtrelay.service")
STATE_FOLDER = "/var/lib/rtrelay"
_VALUES = {
    "postgres_url": "postgresql://relay:canary@postgres:5432/relay",
    "redis_url": "redis://:canary@redis:6379/0",
    "pepper": "0123456789abcdef0123456789abcdef-canary",
}


def documents(name: str) -> list[dict[str, Any]]:
    """Of a YAML file, with duplicate keys refused."""
    return list(yaml.load_all((DEPLOY / name).read_text("utf-8"), Loader=_Strict))


def document(name: str) -> dict[str, Any]:
    """The only one of a YAML file."""
    [only] = documents(name)
    return only


class _Strict(yaml.SafeLoader):
    """Of two equal keys, which YAML forbids, PyYAML takes the later one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [
            key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"
        ]  # before merges are taken in
        assert len(keys) == len(set(keys)), f"twice the same key: {node.start_mark}"
        return super().construct_mapping(node, deep)


def secret_names(name: str) -> set[str]:
    """Files that a configuration takes secrets from, without their folder."""
    text = (DEPLOY / name).read_text("utf-8")
    paths = re.findall(r"\$\{file:([^}]+)\}", text)
    assert paths, "no secrets"
    assert all(path.rpartition("/")[0] in _FOLDERS for path in paths), paths
    return {path.rpartition("/")[2] for path in paths}


def configuration(name: str, directory: Path) -> Config:
    """As `relay serve` reads it, with secrets in files of a directory."""
    if "auth" in RESERVED_KEYS:
        pytest.skip("this version has no keys yet, so it refuses `auth`")
    for secret in secret_names(name):
        (directory / secret).write_text(_VALUES.get(secret, "canary-of-a-provider"))
    text = (DEPLOY / name).read_text("utf-8")
    for folder in (*_FOLDERS, STATE_FOLDER):
        text = text.replace(folder, str(directory))
    state = directory / "state"
    state.mkdir()
    path = directory / "relay.yaml"
    path.write_text(text.replace(STATE, str(state)))
    return load(path)


def raw_server(name: str) -> dict[str, Any]:
    """`server` of a configuration, as it stands in the file."""
    server: dict[str, Any] = document(name)["server"]
    return server


def drain_s(name: str) -> float:
    """The grace of a configuration."""
    return float(raw_server(name)["drain_grace_ms"]) / 1000


def ports(name: str) -> dict[str, int]:
    """Of the listeners of a configuration."""
    server = raw_server(name)
    return {
        key: int(server[key]["address"].rpartition(":")[2]) for key in ("grpc", "http", "admin")
    }


def longest_answer_s(name: str) -> float:
    """The most that an alias of a configuration allows one attempt."""
    longest: list[float] = []
    for alias in document(name)["models"].values():
        timeouts = alias.get("timeouts", {})
        kind = timeouts.get("class", "auto")
        of_class = TIMEOUT_CLASSES_MS["reasoning" if kind != "default" else "default"]
        longest.append(timeouts.get("total_ms", of_class["total_ms"]) / 1000)
    return max(longest)


def seconds(text: str) -> float:
    """Of `135s`, `2m`, `135`."""
    found = re.fullmatch(r"(\d+)(s|m|)", text)
    assert found is not None, text
    return int(found[1]) * (60 if found[2] == "m" else 1)
