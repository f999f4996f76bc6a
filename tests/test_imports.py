"""Who imports whom: the drawing of the house, held as a table.

    cli -> serving -> supervisor, server -> frontends -> session -> dispatch -> race -> attempt
        -> { transport, codecs, routing }, which do not know each other's insides

A room is a module or a package of `relay/`. The table names what each room may use of the others:
a whole room, or one module of it where that is the seam (`codecs.base`). To add an edge is a
decision about the architecture, so it is made here. `from relay import __version__` is free.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LEAVES = {
    "addresses",
    "errors",
    "content",
    "deadline",
    "decision",
    "timeline",
    "trace_context",
    "outcome",
    "tokens",
    "prices",
    "reaper",
    "sse",
    "segments",
    "first_segment",
    "event_size",
    "speculation",
    "logs",
}
"""What every layer may use. They know of each other only what is listed below."""

MAY_USE: dict[str, set[str]] = {
    # leaves
    "addresses": set(),
    # names looked up, and httpx held to what was found: for all that connects somewhere
    "resolving": {"addresses"},
    "pinned_http": {"addresses", "resolving"},
    "errors": set(),
    "content": {"errors"},
    "deadline": {"errors"},
    "timeline": {"deadline"},
    "decision": set(),
    "outcome": {"content", "decision", "errors", "timeline"},
    "tokens": {"content"},
    "trace_context": set(),
    "prices": set(),
    "reaper": set(),
    "sse": set(),
    "segments": set(),
    "first_segment": {"content", "segments"},
    "event_size": {"content", "tokens"},
    "speculation": {"content"},
    "log_sink": set(),
    "logs": {"log_sink"},
    "redaction": {"errors"},
    # parts that do not know each other. Routing makes targets out of the seams of the other two:
    # an endpoint holds an origin and a way to make a codec, and nothing of what is behind them.
    "codecs": LEAVES,
    "transport": LEAVES | {"pinned_http", "resolving"},
    # A credential makes headers out of what it has; what it is made of is the configuration's.
    "credentials": LEAVES | {"config", "transport.base"},
    "routing": LEAVES
    | {
        "config",
        "codecs.base",
        "codecs.registry",
        "credentials.base",
        "credentials.build",
        "transport.base",
    },
    "governance": LEAVES
    | {
        "pinned_http",
        "config",
        "outcome",
        "prices",
        "redaction",
        "routing.catalog",
        "routing.endpoint",
        "routing.route",
        "routing.target",
        "store",
    },
    "resilience": set(),
    "memory_limit": set(),
    # what a worker has taken on: asked by who lets in
    "overload": LEAVES | {"config", "memory_limit", "resilience.overload"},
    "store": {
        "config.limits",
        "config.store",
        "governance.alerts",
        "governance.audit_chain",
        "governance.invoice",
        "governance.money",
        "governance.periods",
    },
    "target_news": {"resilience.breaker", "target_state"},
    "upkeep": LEAVES | {"attempt", "dispatch", "routing", "store", "target_news", "target_state"},
    # The names of wires and of HTTP modes are checked where they are written.
    "config": {
        "addresses",
        "codecs.registry",
        "transport.base",
        "governance.audit_chain",
        "governance.audit_syslog",
        "governance.pepper",
        "policy.languages",
        "trace_context",
    },
    "administration": LEAVES | {"governance", "store"},
    "administering": {"administration", "auditing", "config", "governance.access"},
    "accounts": LEAVES | {"auditing", "config", "governance", "instance", "store"},
    "admin_office": {
        "administering",
        "administration.desk",
        "auditing",
        "config",
        "frontends.admin",
        "frontends.admin_app",
        "governance.access",
        "governance.audit_trail",
        "store.engine",
    },
    "auditing": LEAVES | {"config", "governance", "store"},
    "config_warnings": {"config", "prices"},
    # downstream: which certificate a listener shows, and who its clients are by theirs
    "tls": {"config"},
    # the way of one generation
    "prelude": LEAVES,
    "answer_head": LEAVES | {"transport.base"},
    "attempt_cost": LEAVES | {"routing.target", "target_state"},
    "answer": LEAVES | {"routing.route"},
    "attempt": LEAVES
    | {
        "answer",
        "answer_head",
        "attempt_cost",
        "prelude",
        "governance.ledger",
        "routing.route",
        "routing.target",
        "codecs.base",
        "codecs.rate_limit_headers",
        "credentials.refusals",
        "transport.base",
        "target_state",
        "redaction",
    },
    "target_state": LEAVES | {"credentials.base", "resilience", "routing.target", "routing.choose"},
    # The race knows attempts by a protocol of its own, so that it can be run over simulated ones.
    "race": LEAVES | {"routing.plan"},
    "hedge_counters": LEAVES,
    "hedge_money": LEAVES | {"routing.target", "routing.sticky", "target_state"},
    "race_plan": LEAVES
    | {"hedge_counters", "hedge_money", "race", "resilience", "routing", "target_state"},
    "planner": LEAVES | {"race", "race_plan", "resilience", "routing", "target_state"},
    "dispatch": LEAVES
    | {
        "answer",
        "race",
        "race_plan",
        "planner",
        "attempt",
        "routing",
        "governance",
        "target_state",
        "transport.base",
        "generation_log",
        "overload",
    },
    "generation": LEAVES | {"answer", "dispatch", "governance.ledger", "race_plan"},
    # what a request may become: each knows the way by protocols alone, and `course` alone knows all
    "policy": LEAVES | {"answer", "config", "resilience.hedge_budget"},
    "surroundings": LEAVES
    | {
        "governance.gate",
        "governance.grants",
        "routing.catalog",
        "routing.route",
        "routing.target",
        "target_state",
    },
    "cache": LEAVES
    | {
        "answer",
        "config.cache",
        "config.model",
        "config.semantic_cache",
        "config.store",
        "policy.base",
        "routing.route",
    },
    "guardrails": LEAVES
    | {
        "pinned_http",
        "config.guardrail_scans",
        "config.guardrails",
        "config.model",
        "governance.webhook",
        "policy.base",
    },
    # a provider's `/moderations`, for guardrails that ask it
    "moderations": LEAVES
    | {
        "credentials.refusals",
        "dispatch",
        "guardrails.asking",
        "guardrails.moderation",
        "routing.endpoint",
        "transport.base",
    },
    "guarded": LEAVES | {"answer", "guardrails.base", "routing.route"},
    "leg": LEAVES | {"answer", "dispatch", "generation", "policy.base", "prelude", "routing.route"},
    "course": LEAVES
    | {
        "answer",
        "cache.base",
        "dispatch",
        "governance.ledger",
        "guarded",
        "guardrails.base",
        "leg",
        "policy.base",
        "routing.route",
    },
    "compositions": LEAVES | {"config", "credentials.base", "policy", "routing.catalog"},
    "policies": LEAVES
    | {
        "cache",
        "compositions",
        "config",
        "course",
        "credentials.base",
        "dispatch",
        "guardrails.build",
        "guardrails.chain",
        "moderations",
        "policy",
        "routing.catalog",
        "routing.target",
        "shadow",
        "surroundings",
    },
    "generation_log": LEAVES,
    "outbox": LEAVES,
    "prompt_count": LEAVES
    | {
        "dispatch",
        "governance.ledger",
        "codecs.base",
        "credentials.refusals",
        "redaction",
        "routing.target",
        "transport.base",
    },
    # copies of requests, sent off the way of the ones that they are of
    "stopped_arms": {
        "policy.experiments",
        "policy.guard_rail",
        "store.arm_rows",
        "store.base",
    },
    "shadow": LEAVES
    | {
        "config.experiments",
        "dispatch",
        "generation",
        "governance.operators",
        "planner",
        "policy.likeness",
        "policy.shadow_plan",
        "target_state",
    },
    "prewarm": LEAVES
    | {"generation", "dispatch", "routing.route", "routing.target", "routing.keep_warm"},
    "session": LEAVES | {"generation", "dispatch", "outbox", "prewarm", "resilience.overload"},
    "frontends": LEAVES
    | {
        "session",
        "outbox",
        "generation",
        "dispatch",
        "config",
        "credentials.refusals",
        "governance.feedback",
        "governance.gate",
        "governance.grants",
        "governance.ledger",
        "governance.scopes",
        "governance.token_text",
        "prompt_count",
        "resilience.overload",
        "routing.catalog",
        "routing.endpoint",
        "routing.route",
        "routing.target",
        "redaction",
        "transport.base",
        "tls.names",
        "administration",
        "governance.alerts",
        "governance.audit_actions",
        "governance.audit_trail",
        "governance.budget_scopes",
        "governance.failure_throttle",
        "governance.limits",
        "governance.money",
        "governance.pepper",
        "governance.periods",
        "store.audit_store",
        "store.base",
        "store.usage_fields",
        "store.usage_files",
        "store.usage_query",
        # Both ends of a WebSocket that is handed through; the one that a client opened is no
        # provider's, but the same bounds hold for it.
        "transport.websocket",
    },
    # a worker, and what starts it: what it is called, and how it is bound to a supervisor
    "instance": set(),
    "loop_watch": set(),
    "notify": set(),
    "open_files": set(),
    "workers": set(),
    "hints": LEAVES
    | {
        "instance",
        "resilience.breaker",
        "supervisor",
        "target_state",
        "workers",
    },
    "http_server": {
        "config",
        "frontends.address_bound",
        "frontends.asgi",
        "frontends.http_protocol",
        "tls.door",
    },
    "admin_port": LEAVES
    | {
        "admin_office",
        "config",
        "frontends.admin_app",
        "hints.hub",
        "http_server",
        "observability",
        "supervisor",
        "tls",
    },
    "server": LEAVES
    | {
        "stopped_arms",
        "accounts",
        "overload",
        "resilience.overload",
        "admin_office",
        "auditing",
        "compositions",
        "credentials.base",
        "credentials.desk",
        "frontends",
        "dispatch",
        "routing",
        "governance",
        "config",
        "transport",
        "store",
        "tls",
        "policies",
        "policy.guard_rail",
        "upkeep",
        "http_server",
        "workers",
        "hints",
        "instance",
        "loop_watch",
        "generation_log",
        "observability",
    },
    # What can be seen from outside: it hears of ends, reads what others hold, serves pages and
    # writes reports; nobody on a request's way knows of it.
    "observability": LEAVES
    | {
        "pinned_http",
        "administration",
        "config",
        "credentials.base",
        "dispatch",
        "frontends.admin.problems",
        "frontends.admin.route",
        "frontends.admin_app",
        "frontends.asgi",
        "frontends.cors",
        "generation",
        "governance.audit_actions",
        "governance.audit_trail",
        "governance.ledger",
        "resilience.breaker",
        "routing.catalog",
        "routing.endpoint",
        "store.base",
        "store.engine",
        "store.schema",
        "store.usage_fields",
        "transport.base",
    },
    "emulated": LEAVES | {"config"},
    "supervisor": {"governance.tenant", "workers"},
    "serving": LEAVES
    | {
        "server",
        "supervisor",
        "emulated",
        "auditing",
        "config",
        "config_warnings",
        "http_server",
        "workers",
        "admin_port",
        "notify",
    },
    # what another policy would have done: the real planner and race, over recorded requests
    "whatif": LEAVES
    | {"attempt", "planner", "race", "race_plan", "resilience.latency", "routing", "target_state"},
    # real attempts, for figures and not for anybody's answer
    "measuring": LEAVES
    | {
        "attempt",
        "config",
        "resilience",
        "routing.catalog",
        "routing.endpoint",
        "routing.route",
        "routing.target",
        "store.learned",
        "target_state",
        "transport.base",
    },
    # other gateways' configurations, read into one of ours
    "importing": {"config"},
    # scripted calls, for `relay demo` and the bench
    "calls": set(),
    "commands": LEAVES
    | {
        "cache.semantic_shelf",
        "policy.experiments",
        "administering",
        "administration",
        "governance",
        "store",
        "auditing",
        "compositions",
        "credentials.desk",
        "calls",
        "server",
        "emulated",
        "config",
        "config_warnings",
        "frontends.caller",
        "frontends.chat_body",
        "frontends.request_policy",
        "guardrails.build",
        "guardrails.moderation",
        "importing",
        "measuring",
        "observability",
        "routing",
        "transport",
        "planner",
        "policy",
        "resilience",
        "surroundings",
        "target_state",
        "tls",
        "whatif",
    },
    "cli": LEAVES
    | {
        "commands",
        "open_files",
        "serving",
        "http_server",
        "measuring",
        "supervisor",
        "emulator",
        "config",
        "workers",
    },
    # shares nothing with what it tests, so that mistakes cannot cancel out
    "emulator": set(),
}

OUTSIDE: dict[str, set[str]] = {
    "grpc": {"frontends", "server", "commands", "tls"},
    "grpc_health": {"frontends", "server"},
    "grpc_reflection": {"server"},
    "google": {"credentials", "frontends", "observability"},
    "rtrelay": {"frontends", "commands", "calls"},
    "wreq": {"transport"},
    "pyqwest": {"transport"},
    "httpx2": {
        "transport",
        "commands",
        "governance",
        "guardrails",
        "observability",
        "pinned_http",
    },
    "opentelemetry": {"observability"},
    "websockets": {"transport"},
    "botocore": {"credentials"},
    "prometheus_client": {"observability"},
    "scipy": {"observability"},
    "ssl": {"transport", "commands", "guardrails", "tls", "observability"},
    "genai_prices": {"prices", "governance"},
    "starlette": {"frontends"},
    "trustme": {"emulator"},
    "granian": {"emulator"},
    "redis": {"cache", "hints", "store"},
    "numpy": {"cache"},
    "usearch": {"cache"},
    "wordllama": {"cache"},
    "onnxruntime": {"cache"},
    "tokenizers": {"cache"},
    "uvicorn": {"http_server", "frontends"},
    "pydantic": {"config", "emulator"},
    "typer": {"cli", "commands"},
    "rich": {"cli", "commands"},
}
"""Libraries that belong to some rooms alone."""


@dataclass(frozen=True)
class Import:
    """One import statement's module."""

    by: str
    """Module that imports, `relay.` left out."""
    of: str
    """Full name of what is imported."""
    line: int
    is_at_top: bool

    @property
    def room(self) -> str:
        return self.by.partition(".")[0]


def module_name(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return name.removeprefix("relay").removeprefix(".") or "version"


def statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, bool]]:
    """Every import of a module, and whether it stands at its top (or beneath TYPE_CHECKING)."""
    top = list(tree.body)
    for statement in tree.body:
        if isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING":
            top += statement.body
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, node in top


@cache
def modules() -> frozenset[str]:
    return frozenset(module_name(path) for path in (ROOT / "relay").rglob("*.py"))


@cache
def imports() -> tuple[Import, ...]:
    found: list[Import] = []
    for path in sorted((ROOT / "relay").rglob("*.py")):
        by = module_name(path)
        for node, is_at_top in statements(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                assert isinstance(node, ast.ImportFrom)
                assert node.level == 0, f"relay/{by}: imports are absolute"
                names = [_source(node.module or "", alias.name) for alias in node.names]
            found += [Import(by, name, node.lineno, is_at_top) for name in names]
    return tuple(found)


def _source(module: str, name: str) -> str:
    """The module that `from module import name` takes: `name` itself where it is one."""
    inner = f"{module}.{name}"
    return inner if inner.removeprefix("relay.") in modules() else module


def inside() -> Iterator[tuple[Import, str]]:
    """Imports of our own modules, with the module's name without `relay.`."""
    for one in imports():
        if one.of.startswith("relay."):
            yield one, one.of.removeprefix("relay.")


def test_every_room_is_in_the_drawing() -> None:
    rooms = {name.partition(".")[0] for name in modules()} - {"version"}
    assert rooms == set(MAY_USE)


@pytest.mark.parametrize("room", MAY_USE)
def test_room_uses_only_what_it_may(room: str) -> None:
    allowed = MAY_USE[room] | {room}
    wrong = [
        f"relay/{one.by}:{one.line} imports {module}"
        for one, module in inside()
        if one.room == room
        and not any(module == name or module.startswith(f"{name}.") for name in allowed)
    ]
    assert not wrong


def test_drawing_has_no_edge_that_nobody_uses() -> None:
    """An edge that is not needed any more is taken out; to have a leaf at hand is free."""
    used = {(one.room, module) for one, module in inside()}
    idle = [
        f"{room} -> {name}"
        for room, names in MAY_USE.items()
        for name in names - LEAVES
        if not any(
            by == room and (module == name or module.startswith(f"{name}.")) for by, module in used
        )
    ]
    assert not idle


@pytest.mark.parametrize("library", OUTSIDE)
def test_library_belongs_to_its_rooms(library: str) -> None:
    wrong = [
        f"relay/{one.by}:{one.line}"
        for one in imports()
        if one.of.partition(".")[0] == library and one.room not in OUTSIDE[library]
    ]
    assert not wrong


def test_no_module_imports_itself_in_a_circle() -> None:
    edges: dict[str, set[str]] = {}
    for one, module in inside():
        if module in modules() and module != one.by:
            edges.setdefault(one.by, set()).add(module)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"a circle: {' -> '.join((*path, module))}"
        if module in done:
            return
        for inner in sorted(edges.get(module, ())):
            visit(inner, (*path, module))
        done.add(module)

    for module in sorted(edges):
        visit(module, ())


MAY_BE_LATE = {
    ("credentials.aws_chain", "botocore.config"),
    ("credentials.aws_chain", "botocore.exceptions"),
    ("credentials.aws_chain", "botocore.session"),
    ("credentials.google_library", "google.auth"),
    ("credentials.google_library", "google.auth.exceptions"),
    ("store.engine", "alembic"),
    ("store.engine", "alembic.config"),
    ("store.engine", "alembic.util"),
    ("store.open_store", "relay.store.redis_limits"),
    ("hints.hub", "relay.hints.redis_bus"),
    ("cache.open_shelf", "relay.cache.redis_store"),
    ("commands.experiments_report", "relay.observability.experiments.written"),
    # Telephone numbers: 20 ms, where they are looked for.
    ("guardrails.phones", "phonenumbers"),
    # Of extras, where they are asked for.
    ("guardrails.presidio", "presidio_analyzer"),
    ("guardrails.secret_plugins", "detect_secrets.core.plugins.util"),
    ("cache.semantic_shelf", "relay.cache.embed_onnx"),
    ("cache.semantic_shelf", "relay.cache.embed_provider"),
    ("cache.semantic_shelf", "relay.cache.embed_wordllama"),
    ("cache.semantic_shelf", "relay.cache.semantic_memory"),
    ("cache.semantic_shelf", "relay.cache.semantic_redis"),
    ("server", "relay.hints.redis_bus"),
    ("observability.exports", "relay.observability.tracing.tracer"),
}
"""What takes a tenth or a fifth of a second to import, and is needed where tables must be brought
up, where there is Redis, where traces are made, or where a cloud's own search for credentials is
asked for, alone; and what needs an extra (scipy)."""


def test_imports_stand_at_the_top() -> None:
    wrong = [
        f"relay/{one.by}:{one.line} {one.of}"
        for one in imports()
        # The command imports what the subcommand needs that is run.
        if not one.is_at_top and one.by != "cli" and (one.by, one.of) not in MAY_BE_LATE
    ]
    assert not wrong


def test_nothing_may_be_late_that_is_not() -> None:
    assert {(one.by, one.of) for one in imports() if not one.is_at_top} >= MAY_BE_LATE
