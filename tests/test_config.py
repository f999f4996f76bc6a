"""The configuration file: what is refused and how it is named, and that secrets stay secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from relay.cli import app
from relay.config import (
    MAX_FILE_BYTES,
    MAX_FILE_DEPTH,
    MAX_FILE_EVENTS,
    RESERVED_KEYS,
    Config,
    ConfigError,
    from_environment,
    json_schema,
    known,
    known_providers,
    load,
    parse,
)
from relay.config_warnings import warnings
from relay.routing.catalog import Catalog
from relay.server import transport_settings
from relay.transport import TransportSettings
from tests.fakes.properties import examples

SECRET = "sk-very-secret-1234567890"
ROW = {"wire": "openai_chat", "base_url": "https://x.test/v1"}


def provider(**fields: Any) -> dict[str, Any]:
    return {"providers": {"p": {**ROW, **fields}}}


def fault_of(document: object) -> str:
    with pytest.raises(ConfigError) as raised:
        parse(document)
    return str(raised.value)


# --- defaults -------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [None, {}])
def test_empty_file_is_a_configuration(document: object) -> None:
    config = parse(document)
    assert config == Config()
    assert config.server.grpc.address == "127.0.0.1:50051"
    assert config.server.http.address == "127.0.0.1:8080"
    assert config.server.admin.address == "127.0.0.1:8081"
    assert config.transport.engine == "wreq"


def test_configuration_is_frozen() -> None:
    config = parse(provider())
    with pytest.raises(ValueError, match="frozen"):
        config.server.drain_grace_ms = 1  # type: ignore[misc]


@pytest.mark.parametrize("document", [[], "x", 1, True])
def test_file_is_a_mapping(document: object) -> None:
    assert "mapping" in fault_of(document)


def test_schema_describes_the_file() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {
        "server",
        "transport",
        "store",
        "budgets",
        "auth",
        "audit",
        "tls",
        "limits",
        "observability",
        "providers",
        "models",
        "policies",
        "cache",
        "guardrails",
        "objectives",
    }
    assert "class" in schema["$defs"]["TimeoutsConfig"]["properties"]


def test_readme_names_every_key_variable() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    start = readme.partition("## Under a minute")[2].partition("\n## ")[0]
    rows = known_providers().values()
    variables = [row["api_key_env"] for row in rows if "api_key_env" in row]
    assert re.findall(r"`(\w+_API_KEY)`", start) == variables


# --- unknown and reserved keys --------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"sever": {}}, "sever: unknown key; did you mean 'server'?"),
        ({"server": {"grcp": {}}}, "server.grcp: unknown key; did you mean 'grpc'?"),
        (
            {"server": {"grpc": {"adress": "x"}}},
            "server.grpc.adress: unknown key; did you mean 'address'?",
        ),
        (provider(base_ulr="x"), "providers.p.base_ulr: unknown key; did you mean 'base_url'?"),
        (provider(zzz=1), "providers.p.zzz: unknown key"),
        (
            {**provider(), "models": {"fast": {"candidats": []}}},
            "models.fast.candidats: unknown key; did you mean 'candidates'?",
        ),
        (
            {
                **provider(),
                "models": {
                    "fast": {
                        "candidates": [{"provider": "p", "model": "m"}],
                        "timeouts": {"clas": "default"},
                    }
                },
            },
            "models.fast.timeouts.clas: unknown key; did you mean 'class'?",
        ),
        (
            {
                **provider(),
                "models": {"fast": {"candidates": [{"provider": "p", "modle": "m"}]}},
            },
            "models.fast.candidates[0].modle: unknown key; did you mean 'model'?",
        ),
    ],
)
def test_unknown_key_is_refused_with_the_nearest_name(
    document: dict[str, Any], message: str
) -> None:
    assert message in fault_of(document).split("\n")


@pytest.mark.parametrize("key", RESERVED_KEYS)
def test_keys_of_later_capabilities_are_refused_as_not_there_yet(key: str) -> None:
    for value in (None, {}, {"anything": 1}):
        assert fault_of({key: value}).startswith(f"{key}: not there yet")


def test_every_fault_has_a_line() -> None:
    lines = fault_of(
        {"server": {"drain_grace_ms": -1, "lane_bytes": "x"}, **provider(warm_connections=65)}
    ).split("\n")
    assert [line.partition(":")[0] for line in lines] == [
        "server.drain_grace_ms",
        "server.lane_bytes",
        "providers.p.warm_connections",
    ]


# --- values ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"base_url": "ftp://x"}, "base_url"),
        ({"base_url": "x.test/v1"}, "base_url"),
        ({"base_url": "https://"}, "base_url"),
        ({"base_url": "https://x.test/v1?key=1"}, "base_url"),
        ({"base_url": "https://x.test:99999"}, "base_url"),
        ({"base_url": "https://[::1"}, "base_url"),
        ({"base_url": None}, "base_url"),
        ({"auth": "basic"}, "auth"),
        ({"http": "h3"}, "http"),
        ({"warm_connections": -1}, "warm_connections"),
        ({"max_streams": 0}, "max_streams"),
        ({"headers": {"bad name": "x"}}, "headers"),
        ({"headers": {"x": "a\r\nb"}}, "headers"),
        ({"headers": {"x": "é"}}, "headers"),
        ({"api_keys": "${X}"}, "api_keys"),
        ({"quirks": ["a"]}, "quirks"),
        ({"models": "m"}, "models"),
    ],
)
def test_wrong_value_of_a_provider_is_named(fields: dict[str, Any], named: str) -> None:
    assert fault_of(provider(**fields)).startswith(f"providers.p.{named}")


@pytest.mark.parametrize(
    ("address", "is_right", "is_loopback"),
    [
        ("127.0.0.1:1", True, True),
        ("localhost:1", True, True),
        ("[::1]:1", True, True),
        ("0.0.0.0:1", True, False),
        ("[::]:1", True, False),
        ("relay.test:1", True, False),
        ("127.0.0.1", False, False),
        (":1", False, False),
        ("127.0.0.1:99999", False, False),
        ("127.0.0.1:x", False, False),
        ("127.0.0.1:²", False, False),
    ],
)
def test_addresses(address: str, is_right: bool, is_loopback: bool) -> None:
    document = {"server": {"grpc": {"address": address}}}
    if not is_right:
        assert fault_of(document).startswith("server.grpc.address")
        return
    listener = parse(document).server.grpc
    assert (listener.is_loopback, listener.port) == (is_loopback, 1)


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a b", "x" * 65, "é"])
def test_names_hold_no_slash(name: str) -> None:
    assert "providers" in fault_of({"providers": {name: ROW}})


def test_alias_needs_a_candidate_of_a_provider_that_is_there() -> None:
    assert "models.fast.candidates" in fault_of({"models": {"fast": {"candidates": []}}})
    missing = {"candidates": [{"provider": "q", "model": "m"}]}
    fault = fault_of({**provider(), "models": {"fast": missing}})
    assert "models.fast.candidates[0].provider: there is no provider 'q'" in fault
    document = {
        "providers": {"groq": ROW},
        "models": {
            "fast": {
                "candidates": [{"provider": "groq", "model": "m"}],
                "fallbacks": [{"provider": "gorq", "model": "m"}],
            }
        },
    }
    fault = fault_of(document)
    assert "models.fast.fallbacks[0].provider" in fault
    assert "did you mean 'groq'?" in fault


def test_transport_settings_reach_the_pool() -> None:
    document = {
        "transport": {"max_connections": 3, "max_http1_connections": 5, "dial_timeout_ms": 700}
    }
    settings = transport_settings(parse(document))
    assert settings.max_connections == 3
    assert settings.max_http1_connections == 5
    assert settings.dial_timeout_s == 0.7
    # Left out, they are those of the pool itself.
    ours, theirs = transport_settings(parse({})), TransportSettings()
    assert ours.max_connections == theirs.max_connections
    assert ours.max_http1_connections == theirs.max_http1_connections
    assert ours.dial_timeout_s == theirs.dial_timeout_s


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_connections", 0),
        ("max_http1_connections", 0),
        ("dial_timeout_ms", 0),
        ("dial_timeout_ms", 600_000),
    ],
)
def test_wrong_transport_settings_are_named(field: str, value: int) -> None:
    assert fault_of({"transport": {field: value}}).startswith(f"transport.{field}")


# --- secrets --------------------------------------------------------------------------------


def test_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    row = parse(provider(api_key="${MY_KEY}", api_keys=["${MY_KEY}"])).providers["p"]
    assert [key.get_secret_value() for key in row.keys] == [SECRET, SECRET]


def test_secret_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    row = parse(provider(api_key=f"${{file:{path}}}")).providers["p"]
    assert [key.get_secret_value() for key in row.keys] == [SECRET]


def test_secret_is_printed_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    config = parse(provider(api_key="${MY_KEY}"))
    for text in (repr(config), str(config), config.model_dump_json(), repr(config.providers)):
        assert SECRET not in text
    assert SECRET not in str(json_schema())


@pytest.mark.parametrize(
    "value",
    [SECRET, "$MY_KEY", "${MY KEY}", "x${MY_KEY}", "${MY_KEY}x", "${}", "", 7, ["${MY_KEY}"]],
)
def test_secret_in_the_file_itself_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    fault = fault_of(provider(api_key=value))
    assert fault.startswith("providers.p.api_key: a secret is given as ${ENV_NAME}")
    assert SECRET not in fault


def test_missing_secrets_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    assert "MY_KEY is not set" in fault_of(provider(api_key="${MY_KEY}"))
    monkeypatch.setenv("MY_KEY", "")
    assert "MY_KEY is not set" in fault_of(provider(api_key="${MY_KEY}"))
    assert "cannot read" in fault_of(provider(api_key=f"${{file:{tmp_path / 'none'}}}"))
    assert "cannot read" in fault_of(provider(api_key=f"${{file:{tmp_path}}}"))
    (tmp_path / "empty").write_text(" \n")
    assert "is empty" in fault_of(provider(api_key=f"${{file:{tmp_path / 'empty'}}}"))


@pytest.mark.parametrize("secret", [" sk-1", "sk-1\n", "sk 1", "sk-é", "sk-\x7f1", "\t"])
def test_secret_that_no_header_may_carry_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, secret: str
) -> None:
    monkeypatch.setenv("MY_KEY", secret)
    fault = fault_of(provider(api_key="${MY_KEY}"))
    assert "white space or characters" in fault
    assert "sk" not in fault


def test_secret_file_that_is_no_text_is_refused_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"sk-\xff\xfe")
    fault = fault_of(provider(api_key=f"${{file:{path}}}"))
    assert "is not text" in fault
    assert "xff" not in fault


def test_faults_elsewhere_show_no_values() -> None:
    fault = fault_of(provider(base_url=f"https://user:{SECRET}@x.test", warm_connections=SECRET))
    assert SECRET not in fault
    assert "providers.p.base_url" in fault


def with_secrets(secret: str) -> dict[str, Any]:
    """A file with a secret in every place that takes one as text."""
    return {
        **provider(
            headers={"x-team": secret, "Authorization": f"Token {secret}"},
            egress_proxy=f"http://user:{secret}@proxy.test:3128",
        ),
        "store": {
            "url": f"postgresql://relay:{secret}@db.test/relay",
            "redis": f"redis://:{secret}@r",
        },
    }


def test_headers_proxy_and_store_are_printed_nowhere() -> None:
    config = parse(with_secrets(SECRET))
    catalog = Catalog(config)
    endpoint = catalog.endpoints["p"]
    # They do arrive where they are used.
    assert endpoint.headers == [("x-team", SECRET), ("authorization", f"Token {SECRET}")]
    assert endpoint.origin.egress_proxy == f"http://user:{SECRET}@proxy.test:3128"
    for shown in (
        repr(config),
        str(config),
        config.model_dump_json(),
        repr(config.model_dump()),
        repr(config.providers["p"].headers),
        repr(endpoint),
        repr(endpoint.origin),
        repr(catalog.resolve("p/m")),
        "\n".join(warnings(config)),
    ):
        assert SECRET not in shown


def test_check_prints_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    document = with_secrets(SECRET)
    document["providers"]["p"]["api_key"] = "${MY_KEY}"
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump(document))
    shown = CliRunner().invoke(app, ["check", "-c", str(path)])
    assert (shown.exit_code, "x.test" in shown.output) == (0, True)
    assert SECRET not in shown.output
    document["providers"]["p"]["headers"]["x"] = f"{SECRET}é"
    document["providers"]["p"]["egress_proxy"] = f"proxy://{SECRET}"
    path.write_text(yaml.safe_dump(document))
    shown = CliRunner().invoke(app, ["check", "-c", str(path)])
    assert (shown.exit_code, "egress_proxy" in shown.output) == (1, True)
    assert SECRET not in shown.output


def test_references_stand_inside_headers_proxies_and_stores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    (tmp_path / "user").write_text("user\n")
    document = {
        **provider(
            headers={"authorization": "Token ${MY_KEY}", "x-plain": "$5 {a}"},
            egress_proxy=f"http://${{file:{tmp_path / 'user'}}}:${{MY_KEY}}@proxy.test:3128",
        ),
        "store": {"redis": "redis://:${MY_KEY}@cache.test"},
    }
    config = parse(document)
    row = config.providers["p"]
    values = {name: value.get_secret_value() for name, value in row.headers.items()}
    assert values == {"authorization": f"Token {SECRET}", "x-plain": "$5 {a}"}
    assert row.egress_proxy is not None
    assert row.egress_proxy.get_secret_value() == f"http://user:{SECRET}@proxy.test:3128"
    assert config.store is not None
    assert config.store.redis is not None
    assert config.store.redis.get_secret_value() == f"redis://:{SECRET}@cache.test"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"headers": {"x": "a ${MY KEY}"}}, "headers: 'x': a reference is ${ENV_NAME}"),
        ({"headers": {"x": "${MY_KEY} ${"}}, "headers: 'x': a reference is ${ENV_NAME}"),
        ({"headers": {"x": "${UNSET_KEY}"}}, "headers: 'x': the environment variable UNSET_KEY"),
        ({"headers": {"x": 7}}, "headers: 'x': a text is expected"),
        ({"headers": {"x": None}}, "headers: 'x': a text is expected"),
        ({"headers": [SECRET]}, "headers: a mapping"),
        ({"headers": {"x": f"{SECRET}\n"}}, "headers: the value of 'x' has characters"),
        # A blank forgotten after the colon makes the secret a part of the name.
        ({"headers": {f"Authorization:Bearer {SECRET}": None}}, "headers: 'Authorization' is not"),
        ({"egress_proxy": f"ftp://user:{SECRET}@x"}, "egress_proxy: an http:// or"),
        ({"egress_proxy": SECRET}, "egress_proxy: an http:// or"),
        ({"egress_proxy": "${UNSET_KEY}"}, "egress_proxy: the environment variable UNSET_KEY"),
        ({"egress_proxy": 7}, "egress_proxy: a text is expected"),
        # What the standard library says of these quotes the part between `:` and `/`.
        ({"egress_proxy": f"http://user:{SECRET}/1@x.test"}, "egress_proxy: an http:// or"),
        ({"egress_proxy": f"http://user:{SECRET}\u2100@x.test"}, "egress_proxy: an http:// or"),
        ({"base_url": f"https://user:{SECRET}/1@x.test"}, "base_url: an http:// or"),
        ({"base_url": f"https://:{SECRET}@x.test"}, "base_url: only scheme, host"),
    ],
)
def test_wrong_values_that_may_hold_secrets_are_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], message: str
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    monkeypatch.delenv("UNSET_KEY", raising=False)
    fault = fault_of(provider(**fields))
    assert fault.startswith(f"providers.p.{message}")
    assert SECRET not in fault


# --- known providers ------------------------------------------------------------------------


def test_known_name_brings_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    row = parse({"providers": {"openai": {"api_key": "${MY_KEY}"}}}).providers["openai"]
    known = known_providers()["openai"]
    assert (row.wire, row.base_url) == (known["wire"], known["base_url"])
    assert row.models == tuple(known["models"])
    assert row.quirks == known["quirks"]


@pytest.mark.parametrize("given", [None, {}])
def test_known_name_alone_is_enough(given: object) -> None:
    assert parse({"providers": {"ollama": given}}).providers["ollama"].wire == "openai_chat"


def test_file_wins_over_the_known_row_and_quirks_merge() -> None:
    given = {"base_url": "http://127.0.0.1:9000/v1", "models": ["m"], "quirks": {"refuses": ["n"]}}
    row = parse({"providers": {"openai": given}}).providers["openai"]
    assert (row.base_url, row.models) == ("http://127.0.0.1:9000/v1", ("m",))
    assert row.quirks == {**known_providers()["openai"]["quirks"], "refuses": ["n"]}


def test_another_address_keeps_the_dialect_of_the_name() -> None:
    """A gateway in front of a provider needs the same request as the provider."""
    gateway = "https://gateway.test/openai/v1"
    row = parse({"providers": {"openai": {"base_url": gateway}}}).providers["openai"]
    known = known_providers()["openai"]
    assert (row.base_url, row.auth, row.quirks) == (gateway, known["auth"], known["quirks"])
    # The same host under a name of its own brings nothing along.
    row = parse({"providers": {"own": {"wire": "openai_chat", "base_url": gateway}}}).providers[
        "own"
    ]
    assert row.quirks == {}


def test_quirks_of_a_known_row_are_those_of_its_wire() -> None:
    given = {**ROW, "wire": "other"}
    assert parse({"providers": {"openai": given}}).providers["openai"].quirks == {}


@pytest.mark.parametrize("name", ["openai", "xai", "deepseek"])
def test_another_wire_of_a_known_provider_brings_its_own_quirks(name: str) -> None:
    given: dict[str, Any] = {"wire": "openai_responses"}
    config = parse({"providers": {name: given}})
    row, known = config.providers[name], known_providers()[name]
    assert row.quirks == known["other_wires"]["openai_responses"]["quirks"]
    assert (row.base_url, row.auth, row.models) == (
        known["base_url"],
        known["auth"],
        tuple(known["models"]),
    )
    endpoint = Catalog(config).endpoints[name]
    assert endpoint.make_codec().wire == "openai_responses"
    more = parse({"providers": {name: {**given, "quirks": {"passes": ["x"]}}}}).providers[name]
    assert more.quirks == {**row.quirks, "passes": ["x"]}


def test_ollama_has_its_own_surface_beside_its_v1() -> None:
    given = {"ollama": {"wire": "ollama"}}
    endpoint = Catalog(parse({"providers": given})).endpoints["ollama"]
    assert endpoint.make_codec().wire == "ollama"
    assert (endpoint.base_path, endpoint.probe_path) == ("", "/api/version")


def test_another_wire_may_be_at_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**known_providers()["openai"], "other_wires": {"other": {"base_url": "http://x/y"}}}
    monkeypatch.setattr(known, "known_providers", lambda: {"openai": row})
    given = {"wire": "other"}
    assert parse({"providers": {"openai": given}}).providers["openai"].base_url == "http://x/y"
    given["base_url"] = "http://z"
    assert parse({"providers": {"openai": given}}).providers["openai"].base_url == "http://z"


@pytest.mark.parametrize("wire", [None, [], {}, 1])
def test_wire_of_a_known_provider_that_is_no_name(wire: object) -> None:
    assert fault_of({"providers": {"openai": {"wire": wire}}}).startswith("providers.openai.wire")


@pytest.mark.parametrize("quirks", [["a"], "a", 1])
def test_wrong_quirks_of_a_known_provider_are_named(quirks: object) -> None:
    assert fault_of({"providers": {"openai": {"quirks": quirks}}}).startswith(
        "providers.openai.quirks"
    )


@pytest.mark.parametrize("rows", [[], "x", 1])
def test_providers_are_a_mapping(rows: object) -> None:
    assert fault_of({"providers": rows}).startswith("providers")
    assert fault_of({"providers": {"openai": rows}}).startswith("providers.openai")


def test_every_known_row_that_can_be_spoken_makes_an_endpoint() -> None:
    fields = {"resource": "r", "region": "us-east-1", "api_version": "v"}  # of doors
    rows = {name: fields for name, row in known_providers().items() if row["wire"] == "openai_chat"}
    catalog = Catalog(parse({"providers": rows}))
    assert set(catalog.endpoints) == set(rows)


# --- files and the environment --------------------------------------------------------------


def test_load(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump(provider(models=["m"])))
    assert load(path) == parse(provider(models=["m"]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "no valid YAML in line"),
        (b"\x00", "no valid YAML"),
        (b"\xff\xfe\xfa", "no valid YAML"),
        (b"a: 2024-99-99", "no valid YAML"),
        (b"a: !!python/object:os.system {}", "no valid YAML"),
        (b"- a", "mapping"),
        # Nested: libyaml takes the process along, the Python one a second.
        (b"[" * 1500, "nested too deep in line 1"),
        (b"a: 1\nb: " + b"{a: " * 40, "nested too deep in line 2"),
        (b"- " * 100_000, "nested too deep"),
        (b"? " * 100_000, "nested too deep"),
        (b"x" * (MAX_FILE_BYTES + 1), "larger than"),
        (b"- \n" * (MAX_FILE_EVENTS + 1), "holds more than"),
        # Twice: YAML's own loader would forget the first.
        (b"store: {url: x}\nlimits: {}\nstore: {}\n", "^store: stands twice .*lines 1 and 3"),
        (b"limits: {key: {rpm: 1, rpm: 2}}", r"^limits\.key\.rpm: stands twice"),
        (b"models:\n  a: [{b: 1}, {b: 1, b: 2}]\n", r"^models\.a\.b: stands twice"),
        # Empty: it is being written, or lost.
        (b"", "is empty"),
        (b"# all of it\n# is comment\n", "is empty"),
        (b"~", "is empty"),
        (b"---\n", "is empty"),
    ],
    ids=lambda value: str(value[:16]),
)
def test_file_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "relay.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_merged_mappings_may_be_overruled(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(
        "providers:\n  a: &a {wire: openai_chat, base_url: 'https://a.test/v1', rpm: 1}\n"
        "  b: {<<: *a, rpm: 2}\n"
    )
    assert [row.rpm for row in load(path).providers.values()] == [1, 2]


def test_relative_paths_start_from_the_file_s_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "certs").mkdir()
    (tmp_path / "certs" / "ca.pem").write_text("roots")
    (tmp_path / "key").write_text(SECRET)
    path = tmp_path / "relay.yaml"
    path.write_text(
        yaml.safe_dump(provider(ca_file="certs/ca.pem", api_key="${file:key}", headers={"x": "1"}))
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    row = load(path).providers["p"]
    assert row.ca_file == str(tmp_path / "certs" / "ca.pem")
    assert [key.get_secret_value() for key in row.keys] == [SECRET]
    monkeypatch.chdir(tmp_path)
    assert load(Path("relay.yaml")).providers["p"].ca_file == str(Path("certs/ca.pem"))


@pytest.mark.parametrize(
    ("name", "why"), [("none.pem", "No such file or directory"), ("", "Is a directory")]
)
def test_ca_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, why: str) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text(yaml.safe_dump(provider(ca_file=name)))
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert str(raised.value) == f"providers.p.ca_file: cannot read {tmp_path / name}: {why}"


def test_file_that_says_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    path.write_text("{}")
    assert load(path) == parse({})


def test_file_that_is_nested_as_far_as_anybody_needs(tmp_path: Path) -> None:
    path = tmp_path / "relay.yaml"
    deep: object = 1
    for _ in range(MAX_FILE_DEPTH - 4):
        deep = [deep]
    path.write_text(yaml.safe_dump(provider(quirks={"x": deep})))
    assert load(path).providers["p"].quirks == {"x": deep}


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read relay\.yaml"):
        load(tmp_path / "relay.yaml")


def test_providers_from_well_known_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {"OPENAI_API_KEY": SECRET, "GROQ_API_KEY": SECRET, "OTHER_API_KEY": SECRET}
    for name in keys:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GROQ_API_KEY", "of-the-process")
    config = from_environment(keys)
    assert config is not None
    assert list(config.providers) == ["openai", "groq"]
    for row in config.providers.values():
        assert [key.get_secret_value() for key in row.keys] == [SECRET]
    alias = config.models["fast"]
    assert [row.provider for row in (*alias.candidates, *alias.fallbacks)] == ["openai", "groq"]
    assert SECRET not in repr(config)


@pytest.mark.parametrize("environment", [{}, {"OPENAI_API_KEY": ""}, {"PATH": "/bin"}])
def test_no_well_known_variable(environment: dict[str, str]) -> None:
    assert from_environment(environment) is None


# --- hedging --------------------------------------------------------------------------------


def hedging(hedge: dict[str, Any], **alias: Any) -> dict[str, Any]:
    """An alias of two candidates whose prices are known."""
    candidates = [{"provider": "p", "model": model} for model in ("m", "n")]
    return {
        **provider(prices={model: {"input": 1, "output": 2} for model in ("m", "n")}),
        "models": {"fast": {"candidates": candidates, "hedge": hedge, **alias}},
    }


@pytest.mark.parametrize("value", ["250ms", "soon", 0, -1, 1.5, True, None, [250], {}])
def test_a_wrong_delay_is_one_line(value: object) -> None:
    assert fault_of(hedging({"delay": value})) == (
        "models.fast.hedge.delay: auto, or whole milliseconds such as 250"
    )


@pytest.mark.parametrize("value", ["auto", 1, 250])
def test_a_right_delay(value: object) -> None:
    assert parse(hedging({"delay": value})).models["fast"].hedge.delay == value


@pytest.mark.parametrize("value", ["5%", "5 %", 11, -0.1, True, None, float("nan")])
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("max_extra_requests", "a share such as 0.05, from 0 to 1"),
        ("max_extra_cost", "a share such as 0.20, from 0 to 10"),
        ("tenant_max_extra_requests", "a share such as 0.05, from 0 to 1"),
        ("tenant_max_extra_cost", "a share such as 0.20, from 0 to 10"),
    ],
)
def test_a_wrong_share_is_told_with_a_right_one(name: str, wanted: str, value: object) -> None:
    if value is None and name.startswith("tenant_"):
        return  # as much as the operator's
    assert fault_of(hedging({name: value})) == f"models.fast.hedge.{name}: {wanted}"


# --- warnings -------------------------------------------------------------------------------


def test_what_has_no_effect_yet_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    document = {
        **provider(api_keys=["${MY_KEY}"]),
        "store": {"url": "postgresql://db/relay"},
        "models": {
            "fast": {
                "candidates": [{"provider": "p", "model": "m"}],
                "hedge": {"mode": "active"},
            }
        },
    }
    text = "\n".join(warnings(parse(document)))
    for word in ("hedge", "store"):
        assert word in text
    assert SECRET not in text


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (hedging({"mode": "active"}), []),
        (hedging({"mode": "disabled", "max_attempts": 1, "max_extra_requests": 0}), []),
        (
            hedging({"mode": "active", "max_attempts": 1}),
            ["fast.hedge is active, but `max_attempts: 1` leaves no place for a second attempt"],
        ),
        (
            hedging({"mode": "shadow", "max_attempts": 3}),
            ["fast.hedge.max_attempts is 3, but there are only 2 candidates to ask"],
        ),
        (
            hedging({"mode": "active", "max_extra_requests": 0}),
            ["fast.hedge is active, but `max_extra_requests: 0` pays for no hedge"],
        ),
        (hedging({"mode": "active", "delay": 9_999}), []),
        (
            hedging({"mode": "active", "delay": 10_000}),
            [
                "fast.hedge.delay is 10000 ms, but an attempt without a first token is given up"
                " after 10000 ms (class default): no hedge will start before"
            ],
        ),
        (hedging({"mode": "active", "delay": 10_000}, timeouts={"class": "reasoning"}), []),
        (
            hedging({"mode": "active", "delay": 10_000}, timeouts={"first_token_ms": 900}),
            [
                "fast.hedge.delay is 10000 ms, but an attempt without a first token is given up"
                " after 900 ms (timeouts.first_token_ms): no hedge will start before"
            ],
        ),
        (hedging({}, choose={"mode": "ordered", "sort": "cheapest"}), []),
        (hedging({}, choose={"mode": "tail"}), []),
        (
            hedging({}, choose={"mode": "tail", "sort": "cheapest"}),
            ["fast.choose.sort is cheapest, which only `mode: ordered` looks at; the mode is tail"],
        ),
    ],
)
def test_what_hedging_will_not_do_is_warned_of(
    document: dict[str, Any], expected: list[str]
) -> None:
    assert warnings(parse(document)) == [f"models.{line}" for line in expected]


@pytest.mark.parametrize("mode", ["active", "shadow", "disabled"])
def test_a_price_that_is_not_known_is_warned_of(mode: str) -> None:
    document = hedging({"mode": mode})
    del document["providers"]["p"]["prices"]["n"]
    expected = (
        f"models.fast.hedge is {mode}, but no price is known of p/n: max_extra_cost cannot hold"
        " there, only max_extra_requests does; give prices in providers.p.prices"
    )
    assert warnings(parse(document)) == ([] if mode == "disabled" else [expected])


def test_published_prices_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    models = ("gpt-4o-mini-2024-07-18", "gpt-4o-mini")
    listed = [{"provider": "openai", "model": model} for model in models]
    document = {
        "providers": {"openai": {"api_key": "${OPENAI_API_KEY}"}},
        "models": {"fast": {"candidates": listed, "hedge": {"mode": "active"}}},
    }
    assert warnings(parse(document)) == []


@pytest.mark.parametrize(
    ("key", "listed", "hint"),
    [
        ("gpt-fsat", [], "; did you mean 'gpt-fast'?"),
        ("gpt-solw", ["gpt-slow"], "; did you mean 'gpt-slow'?"),
        ("zzz", [], ""),
        ("gpt-fast", [], None),
        ("gpt-slow", ["gpt-slow"], None),
    ],
)
def test_a_price_of_no_model_is_warned_of(key: str, listed: list[str], hint: str | None) -> None:
    document = {
        **provider(prices={key: {"input": 1, "output": 2}}, models=listed),
        "models": {"fast": {"candidates": [{"provider": "p", "model": "gpt-fast"}]}},
    }
    line = f"providers.p.prices: no alias asks for {key!r} and the row does not list it{hint}"
    assert warnings(parse(document)) == ([] if hint is None else [line])


# --- anything at all ------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=6) | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)


def near(*keys: str, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Mappings that have our keys with anything in them, or anything."""
    optional = {**dict.fromkeys(keys, anything), **known}
    return st.fixed_dictionaries({}, optional=optional) | anything


rows = near(
    "api_key",
    "api_keys",
    "headers",
    "egress_proxy",
    "quirks",
    "models",
    "ca_file",
    "http",
    wire=st.just("openai_chat"),
    base_url=st.sampled_from(["https://x.test", "https://[", "x"]),
)
documents = near(
    "server",
    "transport",
    "store",
    "auth",
    providers=st.dictionaries(
        st.sampled_from(["p", "openai", "models", "headers"]), rows, max_size=2
    ),
    models=st.dictionaries(
        st.sampled_from(["fast", "timeouts", "hedge"]),
        near("candidates", "fallbacks", "timeouts", "hedge", "tags"),
        max_size=2,
    ),
)


@examples(300)
@given(documents)
def test_any_document_is_a_configuration_or_refused(document: object) -> None:
    try:
        warnings(parse(document))
    except ConfigError as error:
        assert str(error)  # noqa: PT017 - often there is none


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"models": {"fast": {"candidates": 5}}}, "models.fast.candidates: must be a list"),
        ({"server": {"http": []}}, "server.http: must be a mapping"),
        (
            {"server": {"slow_consumer_ms": "4s"}},
            "server.slow_consumer_ms: must be a whole number",
        ),
    ],
)
def test_a_wrong_kind_is_told_in_plain_words(document: dict[str, Any], message: str) -> None:
    assert fault_of(document) == message
