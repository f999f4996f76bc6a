"""Scripted calls as a load: the lines of the arms, the process that holds them, the figures."""
