"""What the relay's code may not do, wherever it stands: read from the code itself.

ruff's S rules and bandit (`make lint`) look at the same line by line; here are those without which
somebody else was broken into, with no `noqa` to talk them away.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDERS: Final = (ROOT / "relay", ROOT / "clients" / "python" / "rtrelay")

FORBIDDEN_MODULES: Final = frozenset(
    {
        *("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "jsonpickle", "joblib"),
        *("jinja2", "mako", "telnetlib", "ftplib", "xmlrpc", "pdb", "code", "codeop"),
        "google.protobuf.json_format",  # what callers send is read by no `ParseDict`
    }
)
FORBIDDEN_CALLS: Final = frozenset({"eval", "exec", "compile", "__import__", "breakpoint"})
SPAWNS: Final = (
    "subprocess.",
    "asyncio.create_subprocess",
    "os.spawn",
    "os.exec",
    "os.posix_spawn",
)
MAY_SPAWN: Final = frozenset(
    {
        # `relay store backup` by pg_dump; the operator's own command
        "relay/commands/store.py",
        # workers, the built-in emulator and what `relay demo` shows: ourselves, by sys.executable
        "relay/supervisor.py",
        "relay/emulated.py",
        "relay/commands/demo.py",
        "relay/commands/demo_outage.py",
    }
)


@cache
def trees() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(
        (path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8")))
        for folder in FOLDERS
        for path in sorted(folder.rglob("*.py"))
        if "/v1/" not in path.as_posix()
    )


def modules_of(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def dotted(node: ast.AST) -> str:
    """A name, with what stands before its dots; a dot alone for what is no name."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "."


@cache
def calls_of(tree: ast.Module) -> tuple[tuple[str, ast.Call], ...]:
    return tuple((dotted(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def faults_of(name: str, tree: ast.Module) -> list[str]:
    """What of it is forbidden everywhere."""
    wrong = [
        f"{name} imports {module}"
        for module in modules_of(tree)
        if module in FORBIDDEN_MODULES or module.partition(".")[0] in FORBIDDEN_MODULES
    ]
    for called, node in calls_of(tree):
        where = f"{name}:{node.lineno} {called}"
        keywords = {
            word.arg: str(word.value.value)
            if isinstance(word.value, ast.Constant)
            else dotted(word.value)
            for word in node.keywords
        }
        if called in FORBIDDEN_CALLS or called in ("os.system", "os.popen", "tempfile.mktemp"):
            wrong.append(where)
        elif called in ("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load"):
            loader = keywords.get("Loader") or (dotted(node.args[1]) if node.args[1:] else "")
            if loader != "_Loader":
                wrong.append(where)
        elif keywords.get("shell") == "True":
            wrong.append(f"{where} by a shell")
        elif "False" in (
            keywords.get("verify"),
            keywords.get("tls_verify"),
            keywords.get("check_hostname"),
            keywords.get("tls_verify_hostname"),
        ):
            wrong.append(f"{where} without a look at the certificate")
        elif keywords.get("follow_redirects") == "True" or keywords.get("trust_env") == "True":
            wrong.append(f"{where} goes where it is told to")
        elif called.startswith(SPAWNS) and name not in MAY_SPAWN:
            wrong.append(f"{where} spawns")
    unverified = ("CERT_NONE", "_create_unverified_context")
    wrong += [
        f"{name}:{node.lineno} {node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in unverified
    ]
    return wrong


def test_nothing_that_is_sent_can_be_run() -> None:
    wrong = [fault for name, tree in trees() for fault in faults_of(name, tree)]
    assert wrong == []


def test_loaders_of_yaml_are_safe() -> None:
    found = 0
    for name, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(ast.unparse(target) == "_Loader" for target in targets):
                    found += 1
                    assert "SafeLoader" in ast.unparse(node.value), name
            if isinstance(node, ast.ClassDef) and node.name == "_Loader":
                found += 1
                assert "SafeLoader" in ast.unparse(node.bases[0]), name
    assert found


SQL: Final = re.compile(
    r"^\s*(SELECT\b.*\bFROM|INSERT\s+INTO|UPDATE\s+\S+\s+SET|DELETE\s+FROM|DROP\s|ALTER\s+TABLE)",
    re.IGNORECASE | re.DOTALL,
)
MADE_OF_CONSTANTS: Final = frozenset(
    {"relay/store/postgres_functions.py", "relay/store/sqlite_statements.py"}
)
"""Statements whose names of columns are put in once, when the module is read."""


def made_texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Texts that are made of others: f-texts, `%`, `+`, `format`."""
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr(values=[ast.Constant(value=str(text)), *_]):
                yield node.lineno, text
            case ast.BinOp(left=ast.Constant(value=str(text)), op=ast.Mod() | ast.Add()):
                yield node.lineno, text
            case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(text)), attr="format")):
                yield node.lineno, text
            case _:
                pass


def test_sql_is_made_of_no_texts() -> None:
    wrong = []
    for name, tree in trees():
        inside: list[ast.AST] = [tree]
        if name in MADE_OF_CONSTANTS:  # at the top of the module nothing of a caller's is there
            inside = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
        wrong += [
            f"{name}:{line} {text[:40]!r}"
            for part in inside
            for line, text in made_texts(part)
            if SQL.match(text)
        ]
    assert wrong == []


def test_no_pattern_of_sql_is_a_callers() -> None:
    """`contains(..., autoescape=True)` escapes what it is given; LIKE by hand does not."""
    wrong = []
    for name, tree in trees():
        for called, node in calls_of(tree):
            if called.endswith((".like", ".ilike", ".regexp_match")):
                wrong.append(f"{name}:{node.lineno}")
        for part in ast.walk(tree):
            is_text = isinstance(part, ast.Constant) and isinstance(part.value, str)
            if is_text and re.search(r"\bI?LIKE\s+[?:%$]", ast.unparse(part)):
                wrong.append(f"{name}: {ast.unparse(part)[:60]}")
    assert wrong == []


JUDGES: Final = frozenset(
    f"relay/governance/{name}.py" for name in ("directory", "gate", "pepper", "webhook")
)
"""The audit log's verifier compares MACs too, of a log that it is given: nobody asks it again and
again."""


def test_macs_are_compared_in_constant_time() -> None:
    """No `==` beside what is named a digest or a MAC, where keys and signatures are judged."""
    wrong, judged = [], 0
    word = re.compile(r"(^|[._])(mac|macs|digest|signature|hexdigest\(\)|digest\(\))$")
    for name, tree in trees():
        if name not in JUDGES:
            continue
        judged += 1
        for node in ast.walk(tree):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
                if any(word.search(side) for side in sides):
                    wrong.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert wrong == []
    assert judged == len(JUDGES)


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from dill import loads",
        "import jinja2.sandbox",
        "from google.protobuf import json_format",
        "eval(x)",
        "exec(x)",
        "import os\nos.system(x)",
        "import subprocess\nsubprocess.run(x)",
        "run(x, shell=True)",
        "import yaml\nyaml.load(x)",
        "import yaml\nyaml.load(x, Loader=yaml.Loader)",
        "Client(verify=False)",
        "Client(tls_verify=False)",
        "context.verify_mode = ssl.CERT_NONE",
        "Client(follow_redirects=True)",
        "Client(trust_env=True)",
    ],
)
def test_each_would_be_found(code: str) -> None:
    assert faults_of("relay/x.py", ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        'f"SELECT a FROM {t}"',
        '"DELETE FROM t WHERE a=" + x',
        '"UPDATE t SET a=%s" % x',
        '"INSERT INTO t VALUES ({})".format(x)',
    ],
)
def test_sql_of_texts_would_be_found(code: str) -> None:
    assert [text for _, text in made_texts(ast.parse(code)) if SQL.match(text)]
