"""TLS on the listeners: certificates that are replaced while they serve, and clients by theirs.

A listener's files become one `Loaded`, whole or not at all, and every handshake goes by the one
that is there when it begins: connections never notice. HTTP and admin do TLS in Python's `ssl`,
gRPC in its own library, which knows less: see `relay.tls.grpc_door`.
"""
