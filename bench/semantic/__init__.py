"""The semantic cache measured: how often it answers, how often wrongly, and what it takes."""
