"""The parts of a relay as CycloneDX: `sbom.py OUTPUT`, made of pyproject.toml and the lock.

Every part that a machine may install, with the hashes of all its files, its licence where it is
installed here, and who wants it. The same lock makes the same file.
"""

from __future__ import annotations

import json
import sys
import tomllib
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from locks import Part, parts_of

ROOT = Path(__file__).resolve().parents[1]
_OURS = "rtrelay"


def bom(root: Path = ROOT) -> dict[str, Any]:
    """The document.

    Raises:
        ValueError: of the lock.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    lock = root / "requirements.lock"
    parts = parts_of(lock)
    ours = f"pkg:pypi/{_OURS}@{project['version']}"
    refs = {part.name: _purl(part) for part in parts}
    wanted: dict[str, set[str]] = {ours: set(), **{ref: set() for ref in refs.values()}}
    for part in parts:
        for by in part.wanted_by:
            wanted[refs.get(by, ours)].add(refs[part.name])
    serial = uuid.uuid5(uuid.NAMESPACE_URL, ours + lock.read_text("utf-8"))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{serial}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": ours,
                "name": _OURS,
                "version": project["version"],
                "description": project["description"],
                "licenses": [{"license": {"id": project["license"]}}],
                "purl": ours,
            }
        },
        "components": [_component(part) for part in parts],
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(others)} for ref, others in sorted(wanted.items())
        ],
    }


def _purl(part: Part) -> str:
    return f"pkg:pypi/{part.name.lower().replace('_', '-')}@{part.version}"


def _component(part: Part) -> dict[str, Any]:
    ref = _purl(part)
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": ref,
        "name": part.name,
        "version": part.version,
        "purl": ref,
        "externalReferences": [
            {
                "type": "distribution",
                "url": ref,
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in part.hashes],
            }
        ],
    }
    if licence := _licence(part):
        component["licenses"] = [{"license": {"name": licence}}]
    if part.marker:
        component["properties"] = [{"name": "rtrelay:marker", "value": part.marker}]
    return component


def _licence(part: Part) -> str:
    """As the package says it; empty where it is not installed here, or in another version."""
    try:
        told = metadata.metadata(part.name)
    except metadata.PackageNotFoundError:
        return ""
    if told["Version"] != part.version:
        return ""
    if said := told["License-Expression"]:
        return said
    named = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    short = (told["License"] or "").strip().splitlines()
    return " AND ".join(named) or (short[0][:100] if short else "")


def main() -> None:
    """Write it."""
    output = Path(sys.argv[1])
    output.parent.mkdir(parents=True, exist_ok=True)
    document = bom()
    output.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(f"{output}: {len(document['components'])} parts")  # noqa: T201


if __name__ == "__main__":
    main()
