"""One attacking connection as a process: how long, what it sent, and what that cost it, as JSON.

python -m bench.h2_attacker PORT ATTACK SECONDS MODEL [--again]
"""

from __future__ import annotations

import json
import os
import resource
import sys

from tests.fakes.h2_attacks import ATTACKS, Call, flood, head, question


def main() -> None:
    port, name, seconds, model = sys.argv[1:5]
    os.nice(19)  # it has what the others leave: in earnest it has a machine of its own
    call = Call(head(), question(model))
    told = flood(int(port), ATTACKS[name], float(seconds), call=call, again="--again" in sys.argv)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(
        json.dumps(
            {
                "sent_bytes": told.sent_bytes,
                "received_bytes": told.received_bytes,
                "connections": told.connections,
                "goaway": told.refusal,
                "resets": told.resets,
                "closed_s": told.closed_after_s,
                "by_second": told.by_second,
                "cpu_s": used.ru_utime + used.ru_stime,
            }
        )
    )


if __name__ == "__main__":
    main()
