"""Portkey's open gateway: one Node process, stateless, told by headers whom to ask."""

from __future__ import annotations

import shutil

from bench.peers.peer import (
    FILES,
    MODEL,
    Client,
    Peer,
    PeerError,
    PeerProcess,
    Place,
    installed,
    is_installed,
    mark_installed,
    run,
)


class Portkey(Peer):
    """The npm package; 1.15.2 breaks with newer `@hono/node-server` than 1.13.8."""

    name = "portkey"
    title = "Portkey"
    version = "1.15.2"
    written_in = "JavaScript, Node"
    upstream = "TLS, HTTP/1.1"
    settings = "headless, NODE_ENV=production, no plugins, cache or retries"

    def install(self) -> None:
        lock = FILES / "portkey" / "package-lock.json"
        if is_installed(self.home, lock):
            return
        if shutil.which("npm") is None:
            raise PeerError("no npm here (`make node`)")
        self.home.mkdir(parents=True, exist_ok=True)
        for file in ("package.json", "package-lock.json"):
            shutil.copyfile(FILES / "portkey" / file, self.home / file)
        run(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=self.home)
        mark_installed(self.home, lock)

    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        script = installed(self.home, "node_modules/@portkey-ai/gateway/build/start-server.js")
        node = shutil.which("node")
        if node is None:
            raise PeerError("no node here (`make node`)")
        process = PeerProcess(
            self.name,
            [node, script, f"--port={place.port}", "--headless"],
            place,
            environment={
                "NODE_ENV": "production",
                "NODE_EXTRA_CA_CERTS": place.emulator.ca_file,
            },
        )
        headers = {
            "authorization": "Bearer none",
            "x-portkey-provider": "openai",
            "x-portkey-custom-host": f"{place.emulator.base_url}/v1",
        }
        return process, Client(f"http://127.0.0.1:{place.port}/v1", MODEL, headers)
