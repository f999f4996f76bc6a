"""Ferro Labs' gateway: one Go binary, everything kept in memory."""

from __future__ import annotations

import secrets

from bench.peers.peer import (
    CATALOGUED_MODEL,
    Client,
    Peer,
    PeerProcess,
    Place,
    install_python,
    installed,
)

_NO_LIMIT = "1000000"
_CONFIG = """\
strategy:
  mode: single
targets:
  - virtual_key: openai
"""


class Ferro(Peer):
    """`ferrogw serve`; it passes on only models of its catalogue."""

    name = "ferro"
    title = "Ferro"
    version = "1.5.10"
    written_in = "Go"
    upstream = "TLS, HTTP/2"
    settings = (
        "GOMAXPROCS=1, one target, no plugins, stores in memory, log level error,"
        " its rate limit raised"
    )

    def install(self) -> None:
        install_python(self.name)

    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        program = installed(self.home, "bin/ferrogw")
        key = f"fgw_{secrets.token_hex(16)}"
        config = place.directory / "config.yaml"
        config.write_text(_CONFIG)
        process = PeerProcess(
            self.name,
            [program, "serve"],
            place,
            environment={
                "GOMAXPROCS": "1",
                "GATEWAY_CONFIG": str(config),
                "MASTER_KEY": key,
                "PORT": str(place.port),
                "OPENAI_API_KEY": "none",
                "OPENAI_BASE_URL": f"{place.emulator.base_url}/v1",
                "SSL_CERT_FILE": place.emulator.ca_file,
                "LOG_LEVEL": "error",
                "RATE_LIMIT_RPS": _NO_LIMIT,  # a caller has few a second as it comes
                "RATE_LIMIT_BURST": _NO_LIMIT,
            },
        )
        url = f"http://127.0.0.1:{place.port}/v1"
        return process, Client(url, CATALOGUED_MODEL, {"authorization": f"Bearer {key}"})
