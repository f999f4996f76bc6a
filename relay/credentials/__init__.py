"""How the relay shows a provider who asks: one small file a kind, refreshed beside requests."""
