"""Provider emulator: real wire formats over TLS and HTTP/2, scripted latency and faults.

It imports nothing of `relay.codecs`: it is written from the wire notes alone, so that a mistake
in a codec cannot be cancelled out by the same mistake here.
"""
