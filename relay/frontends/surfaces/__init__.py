"""HTTP surfaces: one module a public API that the shim speaks."""
