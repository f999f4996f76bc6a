"""TensorZero's HTTP gateway as a process of its own, run by the Python of its environment.

Its wheel carries the gateway and a function that serves it from threads of the calling process;
this process does nothing else. The gateway picks its port, which is told in a file.

    python tensorzero_host.py CONFIG_FILE URL_FILE
"""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path


def main() -> None:
    """Serve until terminated."""
    config_file, url_file = sys.argv[1:]
    # Only that environment has it; the package's own door to this, `patch_openai_client`, wants an
    # OpenAI client to patch.
    start = importlib.import_module("tensorzero.tensorzero")._start_http_gateway  # noqa: SLF001
    gateway = start(
        config_file=config_file,
        clickhouse_url=None,
        postgres_url=None,
        valkey_url=None,
        async_setup=False,
    )
    part = Path(f"{url_file}.part")
    part.write_text(gateway.base_url)
    part.rename(url_file)
    signal.pause()


if __name__ == "__main__":
    main()
