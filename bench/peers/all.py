"""The peers that are known, in the order of tables."""

from __future__ import annotations

from bench.peers.envoy import Envoy
from bench.peers.ferro import Ferro
from bench.peers.litellm import LiteLlm
from bench.peers.nginx import Nginx
from bench.peers.peer import Peer
from bench.peers.portkey import Portkey
from bench.peers.tensorzero import TensorZero

PEERS: dict[str, Peer] = {
    peer.name: peer for peer in (Nginx(), Envoy(), TensorZero(), Ferro(), Portkey(), LiteLlm())
}
