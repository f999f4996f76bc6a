"""One file a revision; the rules of their names are in `relay.store.revisions`."""
