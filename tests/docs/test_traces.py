"""The page on traces: its configurations are some, its tables have what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from relay.cli import app
from relay.config import TracingConfig, parse
from relay.content import Policy, Sampling
from relay.observability.tracing import shapes
from relay.observability.tracing.shapes import Shape
from relay.timeline import PHASES
from tests.fakes.memory_transport import FakeEndpoint
from tests.fakes.scenario import Scenario, answer, request
from tests.fakes.virtual_time import on_virtual_time
from tests.observability.tracing.traced import spans_of

NAMESPACES = ("gen_ai.", "error.", "server.", "http.", "network.", "rtrelay.")
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "traces.md").read_text()


def test_its_configurations_are_valid_and_its_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    tracing = parse(yaml.safe_load(first)).observability.tracing
    assert tracing is not None
    assert tracing.endpoint == "http://127.0.0.1:4318/v1/traces"
    monkeypatch.setenv("VLLM_API_KEY", "sk-0123456789")
    assert parse(yaml.safe_load(second)).providers["vllm"].trace_context
    (tmp_path / "relay.yaml").write_text(first)
    monkeypatch.chdir(tmp_path)
    (shell,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    check, serve = shell.splitlines()
    checked = CliRunner().invoke(app, check.split()[1:])
    assert checked.exit_code == 0, checked.output
    assert serve == check.replace("check", "serve")  # of the file that was checked
    (tmp_path / "second.yaml").write_text(second)
    checked = CliRunner().invoke(app, ["check", "-c", "second.yaml"])
    assert checked.exit_code == 0, checked.output


def test_its_table_has_every_field() -> None:
    table = PAGE.partition("| field |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(TracingConfig.model_fields)
    for name, default in re.findall(
        r"^\| `(\w+)` \| (\d[\d.]*|true|false) \|", table, re.MULTILINE
    ):
        assert yaml.safe_load(default) == TracingConfig.model_fields[name].default, name


def written() -> set[str]:
    """Every attribute that the code can give a span, an event or a link."""
    names = {
        node.value
        for node in ast.walk(ast.parse(Path(shapes.__file__).read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"[a-z_]+(\.[a-z_]+)+\.?", node.value)
        and node.value.startswith(NAMESPACES)
    }
    return {f"{name}NAME" if name.endswith(".") else name for name in names}


@on_virtual_time
async def test_its_table_has_every_attribute() -> None:
    table = PAGE.partition("| attribute | of |")[2].partition("\n\n")[0]
    told = {
        name
        for name in re.findall(r"`([a-z_]+\.[a-z_.]+(?:NAME)?)`", table)
        if name.startswith(NAMESPACES)
    }
    assert told == written()
    spans: list[Shape] = []
    policy = Policy(
        session_id="s",
        turn_id="t",
        labels={"x": "y"},
        tags=("t",),
        client="c",
        tenant="t",
        key_id="k",
    )
    sampling = Sampling(temperature=1.0, top_p=1.0, max_output_tokens=9, choices=2, seed=1)
    slow = FakeEndpoint(headers_s=0.1, chunks=answer("a", first_s=3.0))
    fast = FakeEndpoint(headers_s=0.1, chunks=answer("a", "b", gap_s=0.7))
    for mode in ("active", "shadow"):
        scenario = Scenario(
            {"a": slow, "b": fast}, alias_more={"hedge": {"mode": mode, "delay": 1000}}
        )
        wanted = request(policy=policy, sampling=sampling)
        spans += await spans_of(scenario, wanted, content_chars=100)
    spans += await spans_of(Scenario({"a": fast}), request(model="nobody"))
    seen = {
        name
        for span in spans
        for attributes in (
            span.attributes,
            *(mark.attributes for mark in span.events),
            *(link.attributes for link in span.links),
        )
        for name in attributes
    }
    seen = {"rtrelay.label.NAME" if name == "rtrelay.label.x" else name for name in seen}
    assert seen <= told
    assert {span.name for span in spans} <= {*PHASES, "chat fast", "chat m", "chat nobody"}
    assert {mark.name for span in spans for mark in span.events} <= {
        "hedge.decided",
        "hedge.fired",
        "race.won",
    }
