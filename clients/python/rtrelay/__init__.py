"""rtrelay client: messages and gRPC stubs of the `rtrelay.v1` contract, in `rtrelay.v1`."""
