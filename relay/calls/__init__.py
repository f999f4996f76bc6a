"""Scripted voice calls: what happens in them, and an agent that holds them over any line."""
