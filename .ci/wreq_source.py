"""wreq, whose code is compiled: is what is installed what was published, and what its source makes?

1. The wheel and the source of the locked version are fetched by pip, which holds them to the lock's
   hashes.
2. Every file of the installed package is the wheel's, byte for byte.
3. The source is built, where there is a Rust toolchain and its crates can be had, and the two
   libraries are compared: their exported names, and whether they are equal byte for byte, which
   they need not be (paths and dates of the build machine are in them).

What cannot be done is said, with why; the exit code is 1 for what was done and is wrong.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from locks import Part, parts_of

ROOT = Path(__file__).resolve().parents[1]
_BUILD_S = 3600


def _run(*words: str, timeout_s: float = 600, cwd: Path | None = None) -> tuple[int, str]:
    try:
        ran = subprocess.run(  # noqa: S603 - no shell, and the words are ours
            words, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=cwd
        )
    except subprocess.TimeoutExpired:
        return 1, f"not done within {timeout_s:.0f} s"
    return ran.returncode, (ran.stderr or ran.stdout).strip()


def _say(text: str) -> None:
    print(f"wreq: {text}", flush=True)  # noqa: T201


def differing_files(wheel: Path, distribution: metadata.Distribution) -> list[str]:
    """Files of the wheel that are not installed as they are in it, and installed ones beside."""
    wrong, known = [], set()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            known.add(name)
            path = Path(str(distribution.locate_file(name)))
            if name.endswith(("/", "/RECORD")):
                continue
            if not path.is_file() or path.read_bytes() != archive.read(name):
                wrong.append(name)
    installers = ("INSTALLER", "REQUESTED", "direct_url.json", "RECORD")
    for file in distribution.files or ():
        name = file.as_posix()
        if name not in known and file.name not in installers and file.suffix != ".pyc":
            wrong.append(name)
    return wrong


def fetch_wheel(part: Part, folder: Path) -> Path | None:
    """The wheel for this machine, of a hash that the lock has."""
    lock = folder / "wreq.lock"
    hashes = " ".join(f"--hash=sha256:{digest}" for digest in part.hashes)
    lock.write_text(f"wreq=={part.version} {hashes}\n")
    pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--require-hashes")
    code, said = _run(*pip, "--only-binary", ":all:", "-d", str(folder), "-r", str(lock))
    found = sorted(folder.glob("wreq-*.whl"))
    if code or not found:
        _say(f"SKIPPED: its wheel cannot be fetched: {said.splitlines()[-1] if said else code}")
        return None
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest not in part.hashes:
        raise SystemExit(f"wreq: {found[0].name} is not what the lock says")
    return found[0]


def build(part: Part, folder: Path) -> Path | None:
    """A wheel of the source, or None with the reason said."""
    if shutil.which("cargo") is None or shutil.which("rustc") is None:
        _say("SKIPPED: the source is not built: there is no cargo and rustc")
        return None
    code, _ = _run("cargo", "search", "--limit", "1", "wreq", timeout_s=60)
    if code:
        _say("SKIPPED: the source is not built: crates cannot be had from here")
        return None
    lock = folder / "wreq.lock"
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--require-hashes")
    built = folder / "built"
    words = ("--no-binary", "wreq", "-w", str(built), "-r", str(lock))
    code, said = _run(*pip, *words, timeout_s=_BUILD_S)
    found = sorted(built.glob("wreq-*.whl"))
    if code or not found:
        _say(f"SKIPPED: its source of the lock's hash does not build here: {said[-400:]}")
        return None
    return found[0]


def exported(wheel: Path, folder: Path) -> tuple[str, set[str]]:
    """Digest and dynamic symbols of a wheel's library."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".abi3.so"))
        data = archive.read(name)
    library = folder / f"{wheel.parent.name}.so"
    library.write_bytes(data)
    nm = shutil.which("nm")
    names: set[str] = set()
    if nm is not None:
        ran = subprocess.run(  # noqa: S603 - no shell, and the words are ours
            (nm, "-D", "--defined-only", str(library)), capture_output=True, text=True, check=True
        )
        names = {line.rpartition(" ")[2] for line in ran.stdout.splitlines()}
    return hashlib.sha256(data).hexdigest(), names


def main() -> int:
    """Do what can be done."""
    (part,) = (one for one in parts_of(ROOT / "requirements.lock") if one.name == "wreq")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = fetch_wheel(part, folder)
        if wheel is None:
            return 0
        distribution = metadata.distribution("wreq")
        if distribution.version != part.version:
            _say(f"{distribution.version} is installed, {part.version} is locked")
            return 1
        if wrong := differing_files(wheel, distribution):
            _say(f"installed files are not the wheel's: {', '.join(wrong)}")
            return 1
        _say(f"{part.version}: what is installed is {wheel.name}, of the lock's hash")
        built = build(part, folder)
        if built is None:
            return 0
        (one, its), (other, theirs) = exported(wheel, folder), exported(built, folder)
        if its != theirs:
            _say(f"the source exports other names: {sorted(its ^ theirs)[:20]}")
            return 1
        same = "are equal" if one == other else "differ in bytes, not in exported names"
        _say(f"the published library and the built one {same}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
