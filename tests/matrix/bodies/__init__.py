"""What a provider answers wrong: bodies, statuses, headers, usage (rows U17 to U32)."""
