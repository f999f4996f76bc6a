"""What administrators do with organisations, teams, keys, budgets and one another: each act in one
transaction with its entry in the audit log. Blocking: called in a thread, or from a command."""
