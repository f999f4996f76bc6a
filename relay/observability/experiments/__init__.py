"""What the arms of experiments did, and whether the difference is more than chance."""
