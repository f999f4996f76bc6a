"""What the relay costs: latency it adds, CPU per event, memory per session. See README.md."""
