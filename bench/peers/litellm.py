"""LiteLLM's proxy: one uvicorn worker, no database, no spend logs, no callbacks."""

from __future__ import annotations

import secrets

import yaml

from bench.peers.peer import MODEL, Client, Peer, PeerProcess, Place, install_python, installed


class LiteLlm(Peer):
    """`litellm --config ... --num_workers 1`, a wildcard model at the emulator."""

    name = "litellm"
    title = "LiteLLM"
    version = "1.106.2"
    written_in = "Python"
    upstream = "TLS, HTTP/1.1"
    settings = "1 worker, master key, no database, no spend logs, no retries or cooldowns"

    def install(self) -> None:
        install_python(self.name)

    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        program = installed(self.home, "bin/litellm")
        key = f"sk-{secrets.token_urlsafe(24)}"
        config = place.directory / "config.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "model_list": [
                        {
                            "model_name": "*",
                            "litellm_params": {
                                "model": "openai/*",
                                "api_base": f"{place.emulator.base_url}/v1",
                                "api_key": "none",
                                "ssl_verify": place.emulator.ca_file,
                            },
                        }
                    ],
                    "litellm_settings": {"num_retries": 0, "request_timeout": 600},
                    "router_settings": {"disable_cooldowns": True},
                    "general_settings": {"master_key": key, "disable_spend_logs": True},
                }
            )
        )
        command = [program, "--config", str(config), "--host", "127.0.0.1"]
        process = PeerProcess(
            self.name,
            [*command, "--port", str(place.port), "--num_workers", "1"],
            place,
            environment={
                "SSL_CERT_FILE": place.emulator.ca_file,
                "LITELLM_LOG": "ERROR",
                "LITELLM_MODE": "PRODUCTION",
                # Else it asks the network for prices when it starts.
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            timeout_s=90.0,
        )
        url = f"http://127.0.0.1:{place.port}/v1"
        return process, Client(url, MODEL, {"authorization": f"Bearer {key}"})
