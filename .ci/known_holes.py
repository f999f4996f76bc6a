"""Known holes of what a lock holds: `python .ci/known_holes.py PIP_AUDIT LOCK...`

Ends with 1 where there are some, with 0 where there are none, and with 0 and a line that says so
where the service that knows them cannot be asked: nothing was looked at then, and nobody may take
it for a clean bill.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

UNREACHED = "NOT AUDITED: the service of known holes cannot be reached from here"


def judged(said: str) -> tuple[int, list[str]]:
    """Exit code and lines for what pip-audit has written."""
    try:
        document: Any = json.loads(said)
    except json.JSONDecodeError:
        return 0, [UNREACHED]
    parts = document.get("dependencies", [])
    skipped = [part["name"] for part in parts if "skip_reason" in part]
    looked_at = [part for part in parts if "skip_reason" not in part]
    if not looked_at:
        return 0, [UNREACHED]
    holes = [
        f"{part['name']} {part['version']}: {hole['id']} ({', '.join(hole['aliases']) or '-'}),"
        f" mended in {', '.join(hole['fix_versions']) or 'nothing yet'}"
        for part in looked_at
        for hole in part["vulns"]
    ]
    lines = [f"{len(looked_at)} parts looked at, {len(holes)} known holes", *holes]
    if skipped:
        lines.append(f"NOT AUDITED: {', '.join(skipped)}")
    return int(bool(holes)), lines


def main() -> int:
    """Ask for each lock."""
    program, *locks = sys.argv[1:]
    worst = 0
    for lock in locks:
        words = [program, "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        try:
            ran = subprocess.run(  # noqa: S603 - the words are the Makefile's
                [*words, "--timeout", "10", "-f", "json", "-r", lock],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"{lock}: {UNREACHED}")  # noqa: T201
            continue
        code, lines = judged(ran.stdout)
        worst = max(worst, code)
        print(f"{lock}: " + "\n  ".join(lines))  # noqa: T201
    return worst


if __name__ == "__main__":
    sys.exit(main())
