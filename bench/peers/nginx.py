"""nginx as a plain hop: the price of one more process with no features."""

from __future__ import annotations

from bench.peers.peer import MODEL, Client, Peer, PeerError, PeerProcess, Place
from bench.processes import nginx_command, nginx_config, nginx_missing, nginx_version


class Nginx(Peer):
    """The one of the machine, as the other cases of the bench have it."""

    name = "nginx"
    title = "nginx, a plain hop"
    written_in = "C"
    upstream = "TLS, HTTP/1.1"
    settings = "1 worker, kept connections, no buffering, no access log"

    @property
    def version(self) -> str:  # type: ignore[override]
        return nginx_version()

    def install(self) -> None:
        if nginx_missing():
            raise PeerError(f"{nginx_missing()}; it is Debian's package `nginx`")

    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        self.install()
        config = place.directory / "nginx.conf"
        config.write_text(nginx_config(place.directory, place.port, place.emulator))
        process = PeerProcess(
            self.name, nginx_command(place.directory, config), place, environment={}
        )
        return process, Client(f"http://127.0.0.1:{place.port}/v1", MODEL)
