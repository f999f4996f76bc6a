"""Stand-ins for the world outside: scripted servers, an in-memory transport, test certificates."""
