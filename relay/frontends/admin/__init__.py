"""The administration's HTTP API, on the admin listener."""
