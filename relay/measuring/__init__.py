"""Taking the time to first token of doors, for `relay measure`: real attempts, a bound on money."""
