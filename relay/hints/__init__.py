"""What workers tell each other of providers that fail: between workers of one machine by their
supervisor, between machines by Redis.

A hint is lost without harm, and proves nothing: what it does to a breaker is in
`relay.resilience.suspicion`.
"""
