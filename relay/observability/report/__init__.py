"""Reports over weeks, out of the accounts or of the log: pure functions over a stream of rows."""
