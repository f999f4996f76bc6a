"""What the way to a provider does wrong: connections, TLS, HTTP, silence (rows U1 to U16)."""
