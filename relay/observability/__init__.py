"""What shows a relay: metrics, traces, live pages, reports."""
