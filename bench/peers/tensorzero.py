"""TensorZero's gateway, as its wheel serves it: a Rust runtime of one worker thread."""

from __future__ import annotations

from bench.peers.peer import (
    FILES,
    MODEL,
    Client,
    Peer,
    PeerProcess,
    Place,
    install_python,
    installed,
)

_NAME = "bench"
_CONFIG = f"""\
[gateway]
disable_pseudonymous_usage_analytics = true
observability.enabled = false

[models.{_NAME}]
routing = ["emulator"]

[models.{_NAME}.providers.emulator]
type = "openai"
model_name = "{MODEL}"
api_base = "{{base_url}}/v1/"
api_key_location = "none"
"""


class TensorZero(Peer):
    """The last release: its repository is archived."""

    name = "tensorzero"
    title = "TensorZero"
    version = "2026.6.0"
    written_in = "Rust"
    upstream = "TLS, HTTP/2"
    settings = "1 tokio worker, observability and analytics off, no cache"

    def install(self) -> None:
        install_python(self.name)

    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        config, url_file = place.directory / "tensorzero.toml", place.directory / "url"
        config.write_text(_CONFIG.format(base_url=place.emulator.base_url))
        process = PeerProcess(
            self.name,
            [
                installed(self.home, "bin/python"),
                "-P",  # else our own file of this name would be found instead of the package
                str(FILES / "tensorzero_host.py"),
                str(config),
                str(url_file),
            ],
            place,
            environment={
                "SSL_CERT_FILE": place.emulator.ca_file,
                "TOKIO_WORKER_THREADS": "1",
                "RUST_LOG": "error",
            },
            ready_file=url_file,
        )
        return process, Client(url_file.read_text(), f"tensorzero::model_name::{_NAME}")
