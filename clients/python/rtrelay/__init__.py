"""rtrelay client: generated stubs for the `rtrelay.v1` contract (`rtrelay.v1`)."""
