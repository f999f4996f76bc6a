"""Every block of every page: run as it stands, or on a list that says why not."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from relay.config import parse
from relay.routing.catalog import Catalog
from tests.docs.page_shell import follow
from tests.docs.pages import DOCS, ROOT, Block, blocks, headings, pages
from tests.fakes.tls_files import TlsFiles

FOLLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "quick-start.md": ('"content"', "data: [DONE]", "lab/emu-fast", "ready"),
    "openai-apps.md": ("timeline_us", "FIRST_TOKEN_TIMEOUT"),
    "voice-agents.md": ("tokens were written",),
    "migration.md": ("Not carried over", "azure_deployments", "balanced"),
    "operations.md": ('"breaker"', "UPSTREAM_UNREACHABLE", "lab/emu-fast"),
    "providers.md": ("emu-fast", "HTTP/2"),
    "rules.md": ("auto becomes accurate, by hard", "openai/gpt-4o"),
    "security.md": ("voice",),
    "admin.md": ("300000000", "key.revoke"),
}
"""Pages whose files and commands are taken in order, in one shell -> what must be shown."""

TESTED_ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = {
    "budgets.md": ("yaml json python", "tests/docs/test_budgets.py"),
    "cascades.md": ("yaml", "tests/cookbook/test_cascade.py"),
    "clouds.md": ("yaml", "tests/docs/test_clouds.py"),
    "hedging.md": ("yaml", "tests/docs/test_hedging.py"),
    "governance.md": ("yaml", "tests/docs/test_governance.py"),
    "guardrails.md": ("yaml", "tests/cookbook/test_guardrails.py"),
    "usage.md": ("yaml sh", "tests/docs/test_usage.py"),
    "panels.md": ("yaml", "tests/cookbook/test_panel.py"),
    "experiments.md": ("yaml sh", "tests/docs/test_experiments.py"),
    "semantic-cache.md": ("yaml", "tests/cookbook/test_semantic_cache.py"),
}
"""Page -> languages, and the test that takes them."""

OWN_TESTS: Final = frozenset({"metrics.md", "traces.md", "logs.md", "top.md", "report.md"})
"""Pages whose parts of the relay have tests of their own for them."""

NOT_RUN: Final[Mapping[tuple[str, str], str]] = {
    ("quick-start.md", "make run"): "installs from a package index; CI does it as its first step",
    ("quick-start.md", "curl -N"): "the default ports, which are not free on every machine; the"
    " page does the same again with a file",
    (
        "benchmarks.md",
        "make bench-short",
    ): "minutes of a quiet machine; tests/bench has short forms",
    ("migration.md", "relay import litellm config.yaml"): "the form; the page runs both with files",
    ("clouds.md", "relay emulate"): "the fields of its files are held by tests/docs/test_clouds.py,"
    " tokens and signatures by tests/credentials",
    ("clouds.md", "relay measure"): "spends money at live doors; tests/commands/test_measure.py"
    " asks the emulator",
    ("dashboard.md", "relay serve"): "the default ports; tests/observability/pages opens the pages",
    ("tls.md", "curl --cacert"): "hosts and files are the reader's; tests/tls connects so",
    ("tls.md", "openai.OpenAI("): "a fragment; tests/tls connects so",
    (
        "workers.md",
        "async with relay_fleet",
    ): "a fragment, as tests/integration/test_workers.py has it",
    ("hedging.md", "relay emulate"): "500 requests and half a minute;"
    " tests/docs/test_hedging.py asks ten",
    ("governance.md", "export RTRELAY_PEPPER"): "asks OpenAI; its other commands are run by"
    " tests/docs/test_governance.py",
}
"""Page and beginning of a block -> why it is not run as it stands."""


def test_list_of_what_is_not_run_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    for (page, start), why in NOT_RUN.items():
        found = [block for block in blocks(page) if block.text.startswith(start)]
        assert len(found) == 1, f"{page}: {start!r}"
        assert why
    for page, (languages, test) in TESTED_ELSEWHERE.items():
        assert {block.language for block in blocks(page)} >= set(languages.split())
        assert page in (ROOT / test).read_text(encoding="utf-8")
    with capsys.disabled():
        told = "; ".join(f"{page} {start!r}: {why}" for (page, start), why in NOT_RUN.items())
        print(f"\nnot run: {told}")


def is_taken(block: Block) -> str:
    """How a block is tested; empty for not at all."""
    languages, test = TESTED_ELSEWHERE.get(block.page, ("", ""))
    if block.language in languages.split():
        return test
    if any(block.page == page and block.text.startswith(start) for page, start in NOT_RUN):
        return "listed"
    if block.language == "yaml":
        return "parsed"
    if block.page in FOLLOWED and block.language in ("sh", "python"):
        return "followed"
    return "output" if block.language == "text" else ""


def test_every_block_is_taken() -> None:
    missed = [
        f"docs/{block.page}:{block.line}"
        for page in pages()
        if page not in OWN_TESTS
        for block in blocks(page)
        if not is_taken(block)
    ]
    assert missed == []


PARTS: Final[Mapping[str, dict[str, Any]]] = {
    "budgets": {"store": {}},
    "limits": {"store": {}, "providers": {"openai": {}}},
    "auth": {"store": {}},
}
"""What a section needs beside it, where a page shows it alone."""


YAML: Final = [
    block
    for page in pages()
    if page not in OWN_TESTS
    for block in blocks(page)
    if block.language == "yaml" and "yaml" not in TESTED_ELSEWHERE.get(page, ("", ""))[0]
]


@pytest.mark.parametrize("block", YAML, ids=lambda block: f"{block.page}:{block.line}")
def test_configuration(block: Block, tmp_path: Path) -> None:
    document = yaml.safe_load(block.text)
    for section, more in PARTS.items():
        if section in document:
            document = {**more, **document}
    for alias in document.get("models", {}).values():
        for one in (*alias["candidates"], *alias.get("fallbacks", ())):
            document.setdefault("providers", {}).setdefault(one["provider"], {})
    if "limits" in document and "models" not in document:
        names = document["limits"].get("models", ())
        document["models"] = {
            name: {"candidates": [{"provider": "openai", "model": "gpt-4o-mini"}]} for name in names
        }
    text = yaml.safe_dump(document).replace("/var/log/rtrelay/", "")
    document = yaml.safe_load(text)
    _write_files(document, tmp_path)
    names = re.findall(r"\$\{(\w+)\}", block.text)
    environment = dict.fromkeys(names, "0123456789-abcdefghij-ABCDEFGHIJ-0123456789")
    config = parse(document, environment, folder=tmp_path)
    Catalog(config)
    assert config.exposed == []


def _write_files(document: dict[str, Any], folder: Path) -> None:
    """What it names: certificates as the page on TLS has them, and others."""
    (folder / "certs").mkdir()
    (folder / "certs" / "ca.pem").write_text("")
    (folder / "groq.key").write_text("some-secret")
    if "tls" in document:
        (folder / "tls").mkdir()
        files = TlsFiles(folder / "tls")
        files.revoke()


@pytest.mark.sockets
@pytest.mark.parametrize("page", FOLLOWED)
def test_page_works_as_written(page: str, tmp_path: Path) -> None:
    if page == "admin.md" and shutil.which("jq") is None:
        pytest.skip("the page reads answers with jq, which is not installed")
    shown = follow([block for block in blocks(page) if is_taken(block) != "listed"], tmp_path)
    for text in FOLLOWED[page]:
        assert text in shown


def test_links_lead_somewhere() -> None:
    """Also to headings."""
    wrong: list[str] = []
    for page in pages():
        text = (DOCS / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            path, _, heading = target.partition("#")
            if "://" in target:
                continue
            file = DOCS / path if path else DOCS / page
            if not file.exists() or (heading and heading not in headings(file)):
                wrong.append(f"{page}: {target}")
    assert wrong == []


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in pages():
        assert page == "README.md" or f"]({page})" in index, page
    for page in OWN_TESTS:
        assert f"]({page})" in index, page
