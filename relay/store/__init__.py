"""What outlives the process. Today: what was learnt of targets, in SQLite."""
