"""Answers that are given again: to the same request (exact), or to one that means the same."""
