"""Wire formats of providers, one module each, written from the wire notes."""
