"""Pure choice of where a request goes."""
