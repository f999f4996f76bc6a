"""The image, as far as its recipe tells; it was not built here."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import NamedTuple

from tests.deploy.files import DEPLOY, ports

ROOT = DEPLOY.parent


class Step(NamedTuple):
    word: str
    rest: str


def steps() -> list[Step]:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    found = [Step(*line.split(None, 1)) for line in joined.splitlines() if line.strip()]
    assert {step.word for step in found} <= {
        *("ARG", "FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE"),
        *("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    }
    return found


def last_stage() -> list[Step]:
    found = steps()
    last = max(index for index, step in enumerate(found) if step.word == "FROM")
    return found[last:]


def only(word: str) -> str:
    [rest] = [step.rest for step in last_stage() if step.word == word]
    return rest


def test_two_stages_from_the_same_image() -> None:
    stages = [step.rest for step in steps() if step.word == "FROM"]
    assert stages == ["${PYTHON_IMAGE} AS build", "${PYTHON_IMAGE} AS run"]
    [argument] = [step.rest for step in steps() if step.word == "ARG"]
    assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim-\w+", argument)


def test_installed_by_hash_and_by_nothing_else() -> None:
    installs = [
        command
        for step in steps()
        if step.word == "RUN"
        for command in step.rest.split("&&")
        if "pip install" in command
    ]
    assert len(installs) == 2
    assert "--require-hashes" in installs[0]
    assert "-r requirements.lock" in installs[0]
    assert {"--no-deps", "--no-build-isolation"} <= set(installs[1].split())
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert "--hash=sha256:" in lock
    assert re.search(r"^setuptools==", lock, re.MULTILINE)  # what builds our two packages


def test_runs_as_nobody_in_particular_and_stops_in_order() -> None:
    words = [step.word for step in last_stage()]
    user = only("USER")
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", user)  # a number: Kubernetes can see it is not root
    assert words.index("USER") > max(i for i, word in enumerate(words) if word == "RUN")
    assert only("STOPSIGNAL") == "SIGTERM"
    assert json.loads(only("ENTRYPOINT")) == ["relay"]  # no shell that swallows the signal
    assert json.loads(only("CMD"))[0] == "serve"


def test_ports_and_health_are_those_of_the_configuration() -> None:
    listeners = ports("relay.yaml")
    assert only("EXPOSE").split() == [str(listeners["grpc"]), str(listeners["http"])]
    assert f"http://127.0.0.1:{listeners['admin']}/healthz" in only("HEALTHCHECK")


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    allowed = [rule[1:] for rule in rules if rule.startswith("!")]
    copied = {
        source
        for step in steps()
        if step.word == "COPY" and "--from=" not in step.rest
        for source in step.rest.split()[:-1]
    }
    assert copied == set(allowed)
    assert all((ROOT / source).exists() for source in copied)
    for secret in (".env", "relay.db", "deploy/secrets/pepper", "audit.anchor"):
        assert not any(fnmatch.fnmatch(secret, rule) for rule in allowed)


def test_no_secret_is_built_in() -> None:
    for step in steps():
        if step.word in ("ARG", "ENV"):
            assert not re.search(r"(?i)key|secret|token|password|pepper", step.rest)
