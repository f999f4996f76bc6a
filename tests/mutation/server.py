"""Plugin of pytest: collect once, then run the tests that matter for each mutant in a copy.

First a copy runs all tests and notes which lines of the mutated modules each test comes by, and
how long it takes. Each mutant is then a copy of this process, as it was after collecting, in which
the code is exchanged (`patch.py`) and the tests that come by its lines run, the quick ones first,
until one fails. What the job is stands in the file that `RELAY_MUTATION` names.
"""

from __future__ import annotations

import ast
import gc
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TextIO

import coverage
import hypothesis
import pytest
from _pytest import main as pytest_main

from relay.config.known import known_providers
from tests.mutation.children import OVERDUE, Work, all_of, forked
from tests.mutation.patch import Functions, ImportedAnewError
from tests.mutation.plan import ROOT, Mutant

ANEW: Final = "anew"
KILLED: Final = "killed"
SURVIVED: Final = "survived"
UNTESTED: Final = "untested"
_BASELINE_S: Final = 600.0
_AT_LEAST_S: Final = 12.0
_AS_LONG_AS: Final = 6.0
"""So many times what its tests took may a mutant take; the machine does other things too."""

hypothesis.settings.register_profile(
    "mutation",
    # The first counterexample will do, and it is the same one each time.
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    derandomize=True,
    database=None,
)
hypothesis.settings.load_profile("mutation")


class Baseline:
    """What the tests do where nothing is mutated: how long each takes, and where it comes by."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.failed: list[str] = told["failed"]
        self._seconds: dict[str, float] = told["seconds"]
        self._tests: dict[str, dict[int, list[str]]] = {
            module: {int(line): tests for line, tests in lines.items()}
            for module, lines in told["tests"].items()
        }

    def tests_of(self, module: str, lines: Sequence[int], slowest_s: float) -> list[str]:
        """Tests that come by one of these lines, quick ones first; by any, if none is named."""
        known = self._tests[module]
        found = {test for line in lines or known for test in known.get(line, ())}
        chosen = [test for test in found if self._seconds.get(test, math.inf) <= slowest_s]
        return sorted(chosen, key=self._seconds.__getitem__)

    def takes_s(self, tests: Sequence[str]) -> float:
        """All of them."""
        return sum(self._seconds[test] for test in tests)


class Server:
    """Registered as a plugin in the process that collects, and so in its copies."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self._modules: list[str] = job["modules"]
        self._sources = {module: (ROOT / module).read_text() for module in self._modules}
        self._failed: list[str] = []
        self._functions: dict[str, Functions] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Instead of running the tests: the baseline, and every mutant."""
        if session.testsfailed:
            raise session.Interrupted("errors while collecting")
        lines = Path(self._job["mutants"]).read_text().splitlines()
        mutants = [Mutant.read(json.loads(line)) for line in lines]
        self._functions = {m: Functions(m, source) for m, source in self._sources.items()}
        known_providers()  # read once, by the first who asks
        gc.collect()
        gc.freeze()  # copies share it all
        began = time.monotonic()
        baseline = self._baseline(session)
        unfit: set[str] = set(baseline.failed)
        with Path(self._job["outcomes"]).open("a") as results:
            while mutants:
                killers: dict[str, list[Mutant]] = {}
                works = self._works(session, mutants, baseline, unfit, results)
                for (mutant, tests), said in all_of(works, self._job["jobs"]):
                    _note(results, mutant, said, tests)
                    if said.startswith(KILLED):
                        killers.setdefault(said.partition(" ")[2], []).append(mutant)
                found = self._unfit(session, killers)
                unfit |= found
                mutants = [mutant for test in found for mutant in killers[test]]
        print(f"{len(lines)} mutants, {time.monotonic() - began:.0f} s")
        return True

    def _baseline(self, session: pytest.Session) -> Baseline:
        """All in one copy, one after the other."""
        kept = Path(self._job["baseline"])
        if not kept.exists():
            act = forked(lambda: self._seen(session), _BASELINE_S)
            ((_, said),) = all_of([Work("", act, 4 * _BASELINE_S)], 1)
            if said in {"", OVERDUE}:
                raise session.Interrupted(f"no baseline: {said or 'it died'}")
            kept.write_text(said)
        return Baseline(json.loads(kept.read_text()))

    def _unfit(self, session: pytest.Session, killers: Collection[str]) -> set[str]:
        """Those of the tests that fail by themselves: what they killed is no mutant's fault."""

        def alone() -> Iterator[Work]:
            for item in session.items:
                if item.nodeid not in killers:
                    continue

                def act(item: pytest.Item = item) -> str:
                    return self._verdict(session, [item])

                yield Work(item.nodeid, forked(act, _BASELINE_S), _BASELINE_S)

        said = dict(all_of(alone(), self._job["jobs"]))
        found = {test for test, verdict in said.items() if verdict != SURVIVED}
        for test in found:
            print(f"fails alone without any mutant, and is left out: {test}")
        return found

    def _works(
        self,
        session: pytest.Session,
        mutants: Sequence[Mutant],
        baseline: Baseline,
        unfit: Collection[str],
        results: TextIO,
    ) -> Iterator[Work]:
        spans = {module: list(_spans(source)) for module, source in self._sources.items()}
        by_id = {item.nodeid: item for item in session.items}
        for mutant in mutants:
            near = _lines(spans[mutant.module], mutant)
            tests = baseline.tests_of(mutant.module, near, self._job["slowest_s"])
            tests = [test for test in tests if test not in unfit]
            if not tests:
                # Run at import, if at all: then whatever uses the module may find it.
                at_import = _is_at_import(mutant, self._sources[mutant.module])
                tests = baseline.tests_of(mutant.module, (), self._job["slowest_s"])
                _note(results, mutant, ANEW if at_import else UNTESTED, tests)
                continue
            limit_s = _AT_LEAST_S + _AS_LONG_AS * baseline.takes_s(tests)
            items = [by_id[test] for test in tests]

            def act(mutant: Mutant = mutant, items: list[pytest.Item] = items) -> str:
                return self._mutated(session, mutant, items)

            yield Work((mutant, tests), forked(act, limit_s), 2 * limit_s)

    def _mutated(self, session: pytest.Session, mutant: Mutant, items: list[pytest.Item]) -> str:
        """In a copy: be the mutant."""
        try:
            self._functions[mutant.module].become(mutant.applied(self._sources[mutant.module]))
        except ImportedAnewError:
            return ANEW
        return self._verdict(session, items)

    def _verdict(self, session: pytest.Session, items: list[pytest.Item]) -> str:
        with _own_files(session):
            _run(session, items)
        return f"{KILLED} {self._failed[0]}" if self._failed else SURVIVED

    def _seen(self, session: pytest.Session) -> str:
        """In a copy: which test comes by where."""
        files = {module: str(ROOT / module) for module in self._modules}
        seen = coverage.Coverage(data_file=None, include=list(files.values()), config_file=False)
        seconds: dict[str, float] = {}
        with _own_files(session):
            seen.start()
            for item in session.items:
                seen.switch_context(item.nodeid)
                began = time.process_time()
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                seconds[item.nodeid] = time.process_time() - began
            seen.stop()
        data = seen.get_data()
        return json.dumps(
            {
                "failed": self._failed,
                "seconds": {test: s for test, s in seconds.items() if test not in self._failed},
                "tests": {m: data.contexts_by_lineno(file) for m, file in files.items()},
            }
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Which test failed first."""
        if report.failed:
            self._failed.append(report.nodeid)


class _own_files:
    """Copies have files of their own, not those of the process that they are copies of."""

    def __init__(self, session: pytest.Session) -> None:
        self._factory: Any = session.config._tmp_path_factory  # type: ignore[attr-defined]
        self._directory = ""

    def __enter__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="mutant-")
        self._factory._given_basetemp = Path(self._directory, "base")
        self._factory._basetemp = None

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)


def _run(session: pytest.Session, items: list[pytest.Item]) -> None:
    session.items = items
    session.config.option.maxfail = 1
    try:
        pytest_main.pytest_runtestloop(session)
    except (session.Failed, session.Interrupted):
        pass


def _note(results: TextIO, mutant: Mutant, said: str, tests: Sequence[str]) -> None:
    outcome, _, by = (said or f"{KILLED} died").partition(" ")
    line: dict[str, Any] = {"key": mutant.key, "outcome": outcome, "by": by}
    if outcome == ANEW:
        line["run"] = tests
    results.write(json.dumps(line) + "\n")
    results.flush()


def _is_at_import(mutant: Mutant, source: str) -> bool:
    """Whether the statement is none of a function's."""
    line = mutant.start[0]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            if node.body[0].lineno <= line <= node.end_lineno:
                return False
    return True


def _spans(source: str) -> Iterator[tuple[int, int]]:
    """Lines that belong together: of each simple statement, and of each head of a compound one."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.stmt):
            continue
        body = getattr(node, "body", None) or getattr(node, "cases", None)
        if isinstance(body, list) and body:
            first = body[0].pattern.lineno if hasattr(body[0], "pattern") else body[0].lineno
            yield node.lineno, max(node.lineno, first - 1)
        else:
            assert node.end_lineno is not None
            yield node.lineno, node.end_lineno


def _lines(spans: Sequence[tuple[int, int]], mutant: Mutant) -> list[int]:
    """Of the smallest statement that the mutant is in."""
    line = mutant.start[0]
    around = [(last - first, first, last) for first, last in spans if first <= line <= last]
    if not around:
        return [line]
    _, first, last = min(around)
    return list(range(first, last + 1))


def pytest_configure(config: pytest.Config) -> None:
    """Take the job up."""
    job = json.loads(Path(os.environ["RELAY_MUTATION"]).read_text())
    config.pluginmanager.register(Server(job), "mutation-server")
