"""Generated stubs of `rtrelay.v1`; regenerate with `make proto`."""
