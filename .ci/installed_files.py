"""Whether installed packages are what their wheels brought: `installed_files.py [NAME...]`

Every file of a RECORD has the hash that is written there; no code lies in a package's folder that
no RECORD names, and no `.pth` file that nobody needs: Python runs those at every start, which is
how backdoored releases of another gateway ran (PYSEC-2026-2).
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

OURS = frozenset({"rtrelay", "rtrelay-client"})
_PTH = re.compile(
    r"__editable__\.rtrelay.*|distutils-precedence\.pth|a1_coverage\.pth|_virtualenv\.pth"
)
"""Of our own two packages, installed editable; setuptools'; coverage's; virtualenv's."""


def changed_files(distribution: metadata.Distribution) -> list[str]:
    """Files that are missing, or have other bytes than their RECORD says."""
    wrong = []
    for file in distribution.files or ():
        if file.hash is None:  # RECORD itself, and what is compiled
            continue
        path = Path(str(distribution.locate_file(file)))
        try:
            data = path.read_bytes()
        except OSError:
            wrong.append(f"{distribution.name}: {file} is not there")
            continue
        digest = hashlib.new(file.hash.mode, data).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            wrong.append(f"{distribution.name}: {file} is not what its RECORD says")
    return wrong


def added_files(distributions: Iterable[metadata.Distribution]) -> list[str]:
    """Code beside a package's own that no RECORD names, and `.pth` files that are none of ours."""
    known: set[Path] = set()
    folders: set[Path] = set()
    sites: set[Path] = set()
    for distribution in distributions:
        sites.add(Path(str(distribution.locate_file(""))).resolve())
        for file in distribution.files or ():
            path = Path(str(distribution.locate_file(file))).resolve()
            known.add(path)
            if len(file.parts) > 1 and file.parts[0] not in ("..", "__pycache__"):
                folders.add(Path(str(distribution.locate_file(file.parts[0]))).resolve())
    wrong = [
        f"{path} is of no package"
        for folder in sorted(folders)
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".py", ".so", ".pth") and path.resolve() not in known
    ]
    wrong += [
        f"{path} runs at every start of Python"
        for site in sorted(sites)
        for path in sorted(site.glob("*.pth"))
        if not _PTH.fullmatch(path.name)
    ]
    return wrong


def main() -> int:
    """Look at the packages that are named, else at all."""
    names = sys.argv[1:]
    every = [one for one in metadata.distributions() if one.name not in OURS]
    looked_at = [one for one in every if not names or one.name in names]
    wrong = [line for one in looked_at for line in changed_files(one)]
    if not names:
        wrong += added_files(every)
    for line in wrong:
        print(line)  # noqa: T201
    print(f"{len(looked_at)} installed packages looked at, {len(wrong)} faults")  # noqa: T201
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
