"""The short form of the bench: what CI measures, judges and remembers.

pytest-benchmark runs it (`tests/bench/test_short.py`) and stores it (`bench/results/short`); here
are the legs and pieces, the bounds, and the history that is kept in the repository.
"""
