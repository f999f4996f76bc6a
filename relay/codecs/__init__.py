"""Sans-I/O wire formats: bytes in, neutral stream events out; one module a wire interface."""
