"""`relay check`: the way to every provider, and the schema of the file."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from relay.cli import app
from relay.commands.check import print_routes, probe
from relay.config import Config, known_providers, parse
from relay.credentials import desk
from relay.routing.catalog import Catalog
from tests.fakes.command import Ran, relay_command
from tests.fakes.emulator_process import EmulatorProcess
from tests.fakes.h1_server import H1Server
from tests.fakes.h1_server import answer as h1_answer
from tests.fakes.h2_server import H2Server, answer
from tests.fakes.json_schema import faults
from tests.fakes.relay_under_test import provider
from tests.fakes.tls_files import TlsFiles, at

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


# --- what a name resolves to ----------------------------------------------------------------


def shown(directory: Path, document: dict[str, Any], *, width: int = 200) -> str:
    """What is printed of a file."""
    path = directory / "relay.yaml"
    path.write_text(yaml.safe_dump(document))
    environment = {"COLUMNS": str(width)}
    ran = CliRunner().invoke(app, ["check", "-c", str(path)], env=environment)
    assert ran.exit_code == 0, ran.output
    return ran.stdout


LAB = {"wire": "openai_chat", "base_url": "http://127.0.0.1:9/v1"}


@pytest.mark.parametrize(
    ("timeouts", "limits"),
    [
        ({}, ["default: 1 / 10 / 10 / 120 s", "reasoning: 1 / 120 / 60 / 900 s"]),
        ({"class": "default", "connect_ms": 250}, ["default: 0.25 / 10 / 10 / 120 s"]),
        ({"class": "reasoning", "total_ms": 9000}, ["reasoning: 1 / 120 / 60 / 9 s"]),
    ],
)
def test_limits_are_shown_with_their_class(
    tmp_path: Path, timeouts: dict[str, Any], limits: list[str]
) -> None:
    alias = {"candidates": [{"provider": "lab", "model": "m"}], "timeouts": timeouts}
    text = shown(tmp_path, {"providers": {"lab": LAB}, "models": {"fast": alias}})
    assert re.findall(r"\w+: [\d. /]+ s\b", text) == limits


def test_hedging_and_choice_are_shown() -> None:
    row = {**LAB, "prices": {model: {"input": 1, "output": 2} for model in ("m", "n")}}
    both = [{"provider": "lab", "model": model} for model in ("m", "n")]
    models = {
        "plain": {"candidates": both},
        "shown": {"candidates": both, "hedge": {"mode": "shadow"}, "choose": {"mode": "tail"}},
        "sent": {
            "candidates": both,
            "hedge": {
                "mode": "active",
                "delay": 250,
                "max_attempts": 3,
                "max_extra_requests": 0.025,
                "max_extra_cost": 1,
            },
            "choose": {"sort": "cheapest"},
        },
    }
    config = parse({"providers": {"lab": row}, "models": models})
    console = Console(width=200, file=StringIO())
    with console.capture() as captured:
        print_routes(console, config, Catalog(config))
    text = captured.get()
    assert rows(text, "hedging and choice") == [
        ["plain", "disabled", "-", "-", "-", "-", "ordered: configured"],
        ["shown", "shadow", "auto (2000 ms until learned)", "2", "5 %", "20 %", "tail"],
        ["sent", "active", "250 ms", "3", "2.5 %", "100 %", "ordered: cheapest"],
    ]
    assert "warning: models.sent.hedge.max_attempts is 3, but there are only 2" in text


def test_where_prompts_go_and_which_targets_are_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "canary-value")
    entra = {"kind": "azure_entra", "tenant_id": "t", "client_id": "c", "client_secret": "${KEY}"}
    azure = {
        "door": "azure",
        "resource": "corp",
        "region": "swedencentral",
        "data_zone": "eu",
        "retention": "0d",
        "credential": entra,
        "same_as": {"mini": "gpt-4o-mini"},
    }
    listed = [
        {"provider": "openai", "model": "gpt-4o-mini"},
        {"provider": "azure-eu", "model": "mini"},
    ]
    document = {
        "providers": {"openai": {"api_key": "${KEY}"}, "azure-eu": azure},
        "models": {
            "fast": {"candidates": listed},
            "here": {"candidates": listed, "zones": ["eu"]},
        },
    }
    text = shown(tmp_path, document)
    credentials = [row[-1] for row in rows(text, "providers")[:2]]
    assert credentials == ["azure_entra (client_secret)", "1 key"]
    assert rows(text, "where prompts go")[:2] == [
        ["azure-eu", "azure", "swedencentral", "eu", "0d", "-"],
        ["openai", "openai", "-", "unknown", "unknown", "-"],
    ]
    models = rows(text, "models")
    assert models[0][:3] == ["fast", "openai/gpt-4o-mini", "any"]
    assert ["here", "azure-eu/mini", "eu"] in [row[:3] for row in models]
    same = rows(text, "the same model")
    assert same[0][:4] == ["gpt-4o-mini", "openai/gpt-4o-mini (openai)", "unknown", "0.15 / 0.6"]
    assert same[1][1:4] == ["azure-eu/mini (azure)", "eu", "0.15 / 0.6"]
    assert re.match(r"\d{4}-\d\d-\d\d, recorded", same[0][4])
    assert ["", "azure-eu/mini (azure)", "eu", "0.15 / 0.6", "same_as of azure-eu"] in same
    assert "openai/gpt-4o-mini is in no known zone (providers.openai.data_zone" in text
    assert "canary" not in text


def test_each_door_of_a_model_has_its_own_zone_however_narrow_the_terminal(tmp_path: Path) -> None:
    same = {"a-name-that-needs-more-than-one-line": "ours", "n": "ours"}
    row = {**LAB, "same_as": same, "prices": {"n": {"input": 3, "output": 4}}}
    text = shown(tmp_path, {"providers": {"lab": {**row, "data_zone": "eu"}}}, width=60)
    (zone_line,) = (line for line in text.splitlines() if "3 / 4" in line)
    assert "lab/n" in zone_line


def test_how_a_hedge_escalates_is_shown(tmp_path: Path) -> None:
    hedge = {
        "mode": "active",
        "escalate": {"tier": "priority", "max_price_ratio": 1.5},
        "keep_second_warm": "auto",
    }
    alias = {"candidates": [{"provider": "openai", "model": "gpt-4.1-mini"}], "hedge": hedge}
    text = shown(tmp_path, {"providers": {"openai": {}}, "models": {"fast": alias}}, width=200)
    assert "or at priority, up to 1.5 x" in text
    assert "second kept warm" in text


def test_nothing_is_said_of_zones_and_classes_where_there_are_none(tmp_path: Path) -> None:
    alias = {"candidates": [{"provider": "lab", "model": "m"}]}
    text = shown(tmp_path, {"providers": {"lab": LAB}, "models": {"fast": alias}})
    assert "where prompts go" not in text
    assert "the same model" not in text


def test_long_names_are_not_cut(tmp_path: Path) -> None:
    name = "vendor/" + "a-very-long-name-of-a-model-" * 5
    alias = {"candidates": [{"provider": "lab", "model": name}]}
    document = {"providers": {"lab": LAB}, "models": {"fast": alias}}
    text = shown(tmp_path, document, width=60)
    assert "…" not in text
    cells = [line.split("│")[2] for line in text.splitlines() if line.count("│") == 5]
    assert f"lab/{name}" in "".join(cell.strip() for cell in cells)


@pytest.mark.parametrize("name", ["grpc", "http", "admin"])
def test_what_serve_refuses_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump({"server": {name: {"address": "0.0.0.0:8080"}}}))
    ran = CliRunner().invoke(app, ["check", "-c", str(path)])
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert f"server.{name}.address 0.0.0.0:8080 is reachable from outside" in ran.stderr


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({}, "no provider keys are set: the built-in emulator answers"),
        ({"ODD_API_KEY": "k"}, "no provider key that is set can be used (accepted: OPENAI_API_KEY"),
        ({"GROQ_API_KEY": "k"}, "provider keys in the environment: groq\n"),
        ({"GROQ_API_KEY": "k", "ODD_API_KEY": "k"}, "ODD_API_KEY is set, but this version"),
    ],
)
def test_without_a_file_it_checks_what_would_be_served(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], told: str
) -> None:
    odd = {**known_providers()["openai"], "wire": "morse", "api_key_env": "ODD_API_KEY"}
    monkeypatch.setitem(known_providers(), "odd", odd)
    for row in known_providers().values():
        monkeypatch.delenv(row.get("api_key_env") or "NONE", raising=False)
    ran = CliRunner().invoke(app, ["check"], env={"COLUMNS": "400", **variables})
    assert ran.exit_code == 0
    assert told in ran.stdout
    asked = "groq/llama-3.3-70b-versatile" if "GROQ_API_KEY" in variables else "emulator/emu-fast"
    assert asked in ran.stdout


def test_emulator_that_does_not_run_is_not_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in known_providers().values():
        monkeypatch.delenv(row.get("api_key_env") or "NONE", raising=False)
    ran = CliRunner().invoke(app, ["check", "--probe"])
    assert ran.exit_code == 1
    assert "there is nothing to probe" in ran.stderr


# --- the way to the providers ---------------------------------------------------------------


def lab(emulator: EmulatorProcess) -> dict[str, Any]:
    return provider(emulator.base_url_tls, ca_file=emulator.ca_file)


async def probed(directory: Path, **providers: dict[str, Any]) -> Ran:
    path = directory / "relay.yaml"
    path.write_text(yaml.safe_dump({"providers": providers}))
    ran = await relay_command("check", "-c", str(path), "--probe")
    assert ran.errors == ""
    return ran


def rows(output: str, title: str = " probe ") -> list[list[str]]:
    """The cells of the table with this title, and of those after it."""
    table = output.partition(title)[2]
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in table.splitlines()
        if line.startswith("│")
    ]


@pytest.mark.sockets
async def test_probe_asks_over_both_versions(tmp_path: Path, emulator: EmulatorProcess) -> None:
    ran = await probed(tmp_path, lab=lab(emulator))
    assert ran.status == 0
    over_h2, over_h1 = rows(ran.output)
    assert over_h2[:3] == ["lab", "HTTP/2", "200"]
    assert over_h1[:3] == ["lab", "HTTP/1.1", "200"]
    for *_, cold_ms, warm_ms in (over_h2, over_h1):
        assert float(cold_ms) > 0
        assert float(warm_ms) > 0


@pytest.mark.sockets
async def test_probe_of_a_provider_that_is_away_is_told_and_fails(
    tmp_path: Path, emulator: EmulatorProcess, unused_tcp_port: int
) -> None:
    away = provider(f"https://127.0.0.1:{unused_tcp_port}")
    ran = await probed(tmp_path, away=away, lab=lab(emulator))
    assert ran.status == 1
    found = rows(ran.output)
    assert [row[:2] for row in found] == [
        ["away", "HTTP/2"],
        ["away", "HTTP/1.1"],
        ["lab", "HTTP/2"],
        ["lab", "HTTP/1.1"],
    ]
    for _, _, why, *times in found[:2]:
        assert why
        assert times == ["-", "-"]


@pytest.mark.sockets
async def test_probe_over_one_version_is_enough(tmp_path: Path) -> None:
    """Many a provider speaks one version only; and who refuses the key has been reached."""
    async with H2Server() as server:
        server.routes["/v1/models"] = answer(401)
        ran = await probed(tmp_path, lab=provider(server.url, http="h2"))
        mixed = await probed(tmp_path, lab=provider(server.url))
    assert ran.status == 0
    assert [row[:3] for row in rows(ran.output)] == [
        ["lab", "HTTP/2", "401: the credential is refused"]
    ]
    assert mixed.status == 0
    assert [row[1] for row in rows(mixed.output)] == ["HTTP/2", "HTTP/1.1"]


@asynccontextmanager
async def silent_listener() -> AsyncIterator[int]:
    """A port where connections are taken and nothing is ever said."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.sockets
async def test_probe_connects_by_the_settings_of_the_file() -> None:
    async with silent_listener() as port:
        config = parse(
            {
                "transport": {"dial_timeout_ms": 100},
                "providers": {"lab": provider(f"https://127.0.0.1:{port}")},
            }
        )
        began_s = time.monotonic()
        results = await probe(config)
    assert [(row.http, row.is_reachable) for row in results] == [
        ("HTTP/2", False),
        ("HTTP/1.1", False),
    ]
    assert time.monotonic() - began_s < 2.0  # two dials; by default each has three seconds


TOKEN = "canary-token-of-the-machine"
TOKEN_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"


def of_the_machine(provider_url: str, metadata_host: str) -> Config:
    """A row whose token the metadata server of its machine gives out."""
    credential = {"kind": "google", "source": "metadata", "metadata_host": metadata_host}
    row = provider(provider_url, http="h2", credential=credential)
    del row["auth"]
    return parse({"providers": {"lab": row}})


@pytest.mark.sockets
async def test_probe_has_a_token_where_the_row_wants_one() -> None:
    body = {"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}
    async with H2Server() as server, H1Server() as machine:
        server.routes["/v1/models"] = answer(200)
        machine.routes[TOKEN_PATH] = h1_answer(200, json.dumps(body).encode())
        host = machine.url.removeprefix("http://")
        (result,) = await probe(of_the_machine(server.url, host))
        asked = [stream for stream in server.requests("/v1/models") if stream.method == "GET"]
    assert result.status == "200"
    assert asked
    assert {stream.header("authorization") for stream in asked} == {f"Bearer {TOKEN}"}


@pytest.mark.sockets
async def test_probe_does_not_wait_long_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "FIRST_WAIT_S", 0.2)
    async with H2Server() as server, silent_listener() as port:
        server.routes["/v1/models"] = answer(200)
        began_s = time.monotonic()
        (result,) = await probe(of_the_machine(server.url, f"127.0.0.1:{port}"))
        assert time.monotonic() - began_s < 3.0
        assert server.requests("/v1/models") == []
    assert not result.is_reachable
    assert result.status.startswith("providers.lab: no access token")


# --- the schema -----------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    shown = CliRunner().invoke(app, ["check", "--schema"])
    assert shown.exit_code == 0
    document: dict[str, Any] = json.loads(shown.stdout)
    return document


def examples() -> list[dict[str, Any]]:
    """The configuration files that the README shows."""
    blocks: list[str] = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def test_schema_takes_what_the_readme_shows() -> None:
    whole, *parts = examples()
    assert whole.keys() >= {"server", "providers", "models"}
    assert parts
    assert [faults(schema(), document) for document in (whole, *parts)] == [[] for _ in examples()]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"providers": {"openai": None, "groq": {"api_key": "${GROQ_API_KEY}"}}},
        {"providers": {"local": {"wire": "openai_chat", "base_url": "http://127.0.0.1:9000/v1"}}},
        {"models": {"fast": {"candidates": [], "timeouts": {"class": "reasoning"}}}},
        {"providers": {"local": {"base_url": "http://127.0.0.1:9000/v1"}}},
        {"providers": {"openai": {"max_streams": 0}}},
        {"providers": {"openai": {"api_kye": "x"}}},
        {"server": {"grpc": {"reflection": "yes, please"}}},
        {"transport": {"engine": "curl"}},
        {"guardrails": {}},
    ],
)
def test_schema_and_the_relay_agree(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "k")
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump(document))
    is_taken = CliRunner().invoke(app, ["check", "-c", str(path)]).exit_code == 0
    assert (faults(schema(), document) == []) == is_taken


def test_schema_shows_defaults_with_their_reasons() -> None:
    defined = schema()["$defs"]
    assert defined["TransportConfig"]["properties"]["max_connections"]["default"] == 8
    assert "beyond" in defined["TransportConfig"]["properties"]["max_connections"]["description"]
    assert defined["StoreConfig"]["properties"]["url"]["default"] == "sqlite:///relay.db"


# --- listeners ------------------------------------------------------------------------------


def test_listeners_are_shown_with_their_certificates(tmp_path: Path) -> None:
    files = TlsFiles(tmp_path)
    files.renew(not_after=at(days=-10, hours=-1))
    server = {
        "grpc": {"tls": files.settings(clients="required"), "unix_socket": "/run/relay.sock"},
        "http": {"tls": files.settings(clients="optional", min_version="1.3")},
        "admin": {"tls": False, "proxy_terminates_tls": True},
    }
    text = shown(tmp_path, {"tls": files.settings(), "server": server})
    rows = {
        cells[0]: cells[1:]
        for line in reversed(text.splitlines())  # the listener before its socket
        if len(cells := [cell.strip() for cell in re.split("[│|]", line.strip("│ "))]) == 5
    }
    names, ends_on = "localhost, 127.0.0.1", f"{at(days=-10):%Y-%m-%d}"
    assert rows["grpc"][1:3] == ["mTLS, 1.2 or newer", names]
    assert rows["http"][1] == "mTLS optional, 1.3 or newer"
    assert rows["http"][3] == f"{ends_on} (in 10 days)"
    assert rows["admin"][1:] == ["by a proxy", "-", "-"]
    assert "plain (local)" in text
    assert f"server.http.tls.cert_file: the certificate expires on {ends_on}" in text


def test_packages_that_a_start_would_miss_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "usearch" else found(name)
    )
    semantic = {"embeddings": "wordllama", "routes": {"fast": {}}}
    alias = {"candidates": [{"provider": "lab", "model": "m"}]}
    document = {"providers": {"lab": LAB}, "models": {"fast": alias}}
    text = shown(tmp_path, {**document, "cache": {"semantic": semantic}})
    assert (
        "warning: cache.semantic: not installed: usearch; pip install 'rtrelay[semantic]'" in text
    )


def test_check_refuses_what_serve_refuses(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump({"server": {"http": {"address": "0.0.0.0:1"}}}))
    ran = CliRunner().invoke(app, ["check", "-c", str(path)])
    assert ran.exit_code == 1
    assert "server.http.address 0.0.0.0:1 is reachable from outside" in ran.output
