"""What can be seen of a relay from outside: metrics, traces, pages, reports."""
