"""What happens to the process, its disk, its stores, its clock (rows P)."""
