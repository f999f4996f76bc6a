"""What clients do wrong (rows C)."""
