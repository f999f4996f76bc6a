"""Tests; the tree mirrors `relay/`, the stand-ins for the world are in `fakes/`."""
