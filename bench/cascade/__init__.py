"""Cascades over tasks with a computable truth and published latencies: quality, money, time."""
