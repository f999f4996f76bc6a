"""Requests that schemathesis makes of `/openapi.json`: `make test-schema`."""
