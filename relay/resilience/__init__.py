"""State machines that decide on targets; time is an argument, none knows another."""
