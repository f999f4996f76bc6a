"""What a relay is made of: locks, versions, installed files, the wheel, the list of parts, the CI.

The lessons are those of PYSEC-2026-2: an action that was not pinned, a token that lived long, a
`.pth` file in a release.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CI: Final = ROOT / ".ci"


def module(name: str) -> ModuleType:
    """A program of `.ci`, which is no package."""
    sys.path.insert(0, str(CI))
    try:
        spec = importlib.util.spec_from_file_location(f"ci_{name}", CI / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loaded)
    finally:
        sys.path.remove(str(CI))
    return loaded


locks = module("locks")
known_holes = module("known_holes")
installed_files = module("installed_files")
sbom = module("sbom")
wreq_source = module("wreq_source")


INSTALLED: Final = re.compile(r"\.venv.*|\.peers|\.git|\..*_cache|node_modules|build|dist")


def files(pattern: str) -> list[Path]:
    """Those of the repository, and none that was installed into it."""
    found: list[Path] = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not INSTALLED.fullmatch(name)]
        paths = (Path(folder, name) for name in names)
        found += [path for path in paths if path.relative_to(ROOT).match(pattern)]
    return sorted(found)


LOCKS: Final = files("*.lock")
NODE_LOCKS: Final = files("package-lock.json")


# --- locks ----------------------------------------------------------------------------------------


def test_the_locks_are_found() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in LOCKS}
    assert {"requirements.lock", "requirements-dev.lock", ".ci/requirements-supply.lock"} <= names
    assert NODE_LOCKS


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_part_has_one_version_and_hashes_and_no_address(path: Path) -> None:
    parts = locks.parts_of(path)  # raises for whatever is neither
    assert parts
    for part in parts:
        assert part.hashes, part.name
    assert "://" not in path.read_text("utf-8")


@pytest.mark.parametrize(
    "line",
    [
        "x @ https://example.test/x.whl",
        "--index-url https://example.test/simple",
        "x>=1",
        "-e .",
        "git+https://example.test/x",
        "./x.whl",
        "x==1 --hash=md5:00",
    ],
)
def test_what_is_no_pinned_part_is_found(tmp_path: Path, line: str) -> None:
    path = tmp_path / "x.lock"
    path.write_text(f"a==1 \\\n    --hash=sha256:{'0' * 64}\n{line}\n")
    with pytest.raises(ValueError, match="is no requirement"):
        locks.parts_of(path)


@pytest.mark.parametrize("path", NODE_LOCKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_part_of_node_has_its_hash_and_no_address(path: Path) -> None:
    packages = json.loads(path.read_text("utf-8"))["packages"]
    for name, part in packages.items():
        if name and not part.get("link"):
            assert part.get("integrity", "").startswith("sha512-"), name
            assert "resolved" not in part, name


def test_everything_is_installed_by_its_hash() -> None:
    """In the Makefile, the Dockerfile and CI."""
    for path in (ROOT / "Makefile", ROOT / "deploy" / "Dockerfile", *files(".ci/*")):
        text = path.read_text("utf-8").replace("\\\n", " ")
        for line in text.splitlines():
            if re.search(r"pip install(?! -q --disable-pip-version-check uv$)", line):
                is_ours = "--no-deps" in line and "--no-build-isolation" in line
                assert "--require-hashes" in line or is_ours or "PIP_INSTALL" in line, line
    ours = re.search(r"PIP_INSTALL := (.*)", (ROOT / "Makefile").read_text("utf-8"))
    assert ours is not None
    assert "--require-hashes" in ours[1]


# --- versions below which there are known holes ---------------------------------------------------

FLOORS: Final = {
    "starlette": (
        "1.0.1",
        "CVE-2026-48710: a Host that shifts the path; before, multipart and Range",
    ),
    "h11": ("0.16", "CVE-2025-43859: loose ends of chunks"),
    "h2": ("4.3.0", "CVE-2025-57804: line ends in headers"),
    "hpack": ("4.1.1", "GHSA-ffq8-576r-v26g: HPACK bomb"),
    "protobuf": ("6.33.5", "CVE-2026-0994: ParseDict with nested Any; CVE-2025-4565: recursion"),
    "grpcio": ("1.76", "CVE-2023-33953, -32731, -4785, CVE-2024-7246, -11407: C-core"),
    "httptools": ("0.9", "the parser that the relay's own limits are written for"),
    "uvicorn": ("0.54", "as httptools"),
    "websockets": ("17.4", "bounds of messages and fragments"),
    "cryptography": ("42", "the emulator's certificates"),
    "PyYAML": ("5.4", "CVE-2020-14343: full_load runs code"),
}
"""At most what `pyproject.toml` lets in; in brackets what is below."""
NEVER: Final = frozenset(
    {"aiohttp", "python-multipart", "jinja2", "dill", "cloudpickle", "litellm"}
)
"""In no relay: gzip members and smuggling (CVE-2025-69223, CVE-2026-111750, -128131), multipart
(CVE-2024-8984), templates (CVE-2024-2952, CVE-2026-42203), pickles (CVE-2026-25874)."""


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:4])


@pytest.mark.parametrize("name", FLOORS)
def test_no_version_below_the_known_holes(name: str) -> None:
    floor, why = FLOORS[name]
    for path in LOCKS:
        if path.is_relative_to(ROOT / "bench" / "peers"):
            continue  # other gateways, measured in environments of their own
        for part in locks.parts_of(path):
            if part.name.lower() == name.lower():
                assert number(part.version) >= number(floor), f"{path.name}: {why}"
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return
    assert number(installed) >= number(floor), why


def test_what_no_relay_has() -> None:
    names = {part.name.lower() for part in locks.parts_of(ROOT / "requirements.lock")}
    assert not names & NEVER


def test_protobuf_is_read_by_the_library_in_c() -> None:
    """CVE-2025-4565: the pure Python one recurses as deep as a message says."""
    from google.protobuf.internal import api_implementation

    assert api_implementation.Type() == "upb"


# --- installed files ------------------------------------------------------------------------------


def test_wreq_is_what_its_record_says() -> None:
    assert installed_files.changed_files(metadata.distribution("wreq")) == []


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A place where one package is installed."""
    package = tmp_path / "good"
    package.mkdir()
    code = b"x = 1\n"
    (package / "__init__.py").write_bytes(code)
    digest = base64.urlsafe_b64encode(hashlib.sha256(code).digest()).rstrip(b"=").decode()
    info = tmp_path / "good-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: good\nVersion: 1\n")
    record = f"good/__init__.py,sha256={digest},{len(code)}\ngood-1.dist-info/METADATA,,\n"
    (info / "RECORD").write_text(f"{record}good-1.dist-info/RECORD,,\n")
    return tmp_path


def faults(site: Path) -> list[str]:
    there = list(metadata.distributions(path=[str(site)]))
    assert len(there) == 1
    return [*installed_files.changed_files(there[0]), *installed_files.added_files(there)]


def test_what_is_as_it_came_is_fine(site: Path) -> None:
    assert faults(site) == []


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("good/__init__.py", b"x = 2\n", "is not what its RECORD says"),
        ("good/__init__.py", None, "is not there"),
        ("good/backdoor.py", b"", "is of no package"),
        ("good/backdoor.so", b"", "is of no package"),
        ("litellm_init.pth", b"import os\n", "runs at every start"),
        ("distutils-precedence.pth2.pth", b"", "runs at every start"),
    ],
)
def test_what_was_changed_is_found(site: Path, name: str, data: bytes | None, said: str) -> None:
    path = site / name
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)
    (fault,) = faults(site)
    assert said in fault


def test_a_wheel_that_differs_from_what_is_installed_is_found(site: Path) -> None:
    wheel = site / "x.whl"
    distribution = metadata.Distribution.at(site / "good-1.dist-info")
    record = (site / "good-1.dist-info" / "RECORD").read_bytes()
    told = (site / "good-1.dist-info" / "METADATA").read_bytes()
    for code, wrong in ((b"x = 1\n", []), (b"x = 3\n", ["good/__init__.py"])):
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("good/__init__.py", code)
            archive.writestr("good-1.dist-info/METADATA", told)
            archive.writestr("good-1.dist-info/RECORD", record)
        assert wreq_source.differing_files(wheel, distribution) == wrong
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("good-1.dist-info/METADATA", told)
    assert wreq_source.differing_files(wheel, distribution) == ["good/__init__.py"]


# --- known holes ----------------------------------------------------------------------------------


def audited(*parts: dict[str, Any]) -> tuple[int, list[str]]:
    code, lines = known_holes.judged(json.dumps({"dependencies": parts, "fixes": []}))
    return code, lines


GOOD: Final = {"name": "a", "version": "1", "vulns": []}
BAD: Final = {
    "name": "b",
    "version": "1",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}],
}
SKIPPED: Final = {"name": "c", "skip_reason": "not found"}


def test_what_could_not_be_asked_is_no_clean_bill() -> None:
    assert known_holes.judged("") == (0, [known_holes.UNREACHED])
    assert audited(SKIPPED) == (0, [known_holes.UNREACHED])
    assert audited(GOOD, SKIPPED) == (0, ["1 parts looked at, 0 known holes", "NOT AUDITED: c"])


def test_a_known_hole_fails() -> None:
    assert audited(GOOD) == (0, ["1 parts looked at, 0 known holes"])
    code, lines = audited(GOOD, BAD)
    assert code == 1
    assert lines[1] == "b 1: PYSEC-1 (CVE-1), mended in 2"


# --- the list of parts ----------------------------------------------------------------------------


def test_the_list_of_parts_is_the_lock() -> None:
    document = sbom.bom()
    parts = {part.name: part for part in locks.parts_of(ROOT / "requirements.lock")}
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.6")
    listed = {one["name"]: one for one in document["components"]}
    assert listed.keys() == parts.keys()
    for name, one in listed.items():
        assert one["version"] == parts[name].version
        (source,) = one["externalReferences"]
        assert [each["content"] for each in source["hashes"]] == list(parts[name].hashes)
    refs = {one["bom-ref"] for one in document["components"]}
    ours = document["metadata"]["component"]["bom-ref"]
    wants = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert wants.keys() == refs | {ours}
    reached: set[str] = set()
    waiting = [ours]
    while waiting:
        ref = waiting.pop()
        if ref not in reached:
            reached.add(ref)
            waiting += wants[ref]
    assert reached == refs | {ours}, "what nobody wants would not be in the lock"
    assert sbom.bom() == document
    assert "://" not in json.dumps(document["components"])


def test_make_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.cdx.json"
    subprocess.run([sys.executable, CI / "sbom.py", path], check=True, capture_output=True)
    assert json.loads(path.read_text())["components"]
    assert ".ci/sbom.py dist/rtrelay.cdx.json" in (ROOT / "Makefile").read_text("utf-8")


# --- the wheel ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Names in a wheel that is built as a release is, of a copy, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "relay", copy / "relay", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", build, str(folder)],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return archive.namelist()


@pytest.mark.timeout(180)
def test_the_wheel_has_the_relay_and_nothing_beside(wheel: list[str]) -> None:
    tops = {name.partition("/")[0] for name in wheel}
    assert tops == {"relay", "rtrelay-0.1.0.dist-info"}
    assert not [name for name in wheel if name.endswith((".pth", ".pyc", ".so", ".db", ".pem"))]
    suffixes = {Path(name).suffix for name in wheel if name.startswith("relay/")}
    known = {".py", ".typed", ".yaml", ".lua", ".html", ".css", ".js", ".svg", ".md", ""}
    assert suffixes - known <= {".mjs", ".json", ".txt"}, suffixes
    code = {name for name in wheel if name.endswith(".py")}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "relay").rglob("*.py")}
    assert code == there


# --- CI -------------------------------------------------------------------------------------------

WORKFLOWS: Final = files(".github/workflows/*")


def test_ci_files_are_found() -> None:
    assert WORKFLOWS
    assert {path.suffix for path in WORKFLOWS} == {".yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_ci_runs_what_is_pinned_with_no_right_but_to_read(path: Path) -> None:
    text = path.read_text("utf-8")
    document = yaml.safe_load(text)
    assert document["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in text
    assert "secrets." not in text, "no token that lives longer than its run"
    assert "github.event" not in text, "nothing that a stranger writes is put into a script"
    for job in document["jobs"].values():
        assert job.get("permissions", {"contents": "read"}) == {"contents": "read"}
        assert job["timeout-minutes"] <= 120
        for step in job["steps"]:
            if (used := step.get("uses")) is None:
                assert "curl" not in step["run"], step
                continue
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), used
            if used.startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False
    for line in text.splitlines():
        if "uses:" in line:
            assert re.search(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
