"""What another policy would have done: the real planner and race, over recorded requests."""
