"""Metrics for Prometheus, right over one worker and over several.

A generation raises plain numbers once, at its end (`recorder`). What is read of the worker's state
is read when somebody asks (`sampler`). Both make a snapshot (`snapshot`), which a supervisor asks
of each of its workers and joins (`join`); the page is made of the joined one (`page`). `families`
is the table of all that is told.
"""
