"""Downstream edges; they know protobuf or HTTP, and nothing of providers."""
