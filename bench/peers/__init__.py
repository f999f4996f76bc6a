"""Other gateways beside the relay, in one run on one rig.

    python -m bench.peers install [PEER ...]     into .peers/, an environment each
    python -m bench.peers run [--quick]          measure; writes bench/results/peers-*.json
    python -m bench.peers run --plan             how long that takes, and nothing else
    python -m bench.peers run --resume FILE      go on with a run that was interrupted
    python -m bench.peers publish FILE           take a run as the one that README.md shows
    python -m bench.peers render [--check]       README's table and pictures from that

One file a peer says which version it is, how it is installed and started, with which settings, and
how a client speaks to it. A peer that cannot be installed or started is left out, with the reason.
"""
