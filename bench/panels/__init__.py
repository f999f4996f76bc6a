"""What a panel costs and what its early stop saves: published latencies, replayed and measured."""
