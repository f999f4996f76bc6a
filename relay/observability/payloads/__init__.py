"""Payload log: prompts and answers of chosen generations as JSON lines, in files that are rotated
and deleted by age and size. Imported only where `observability.payloads` is configured."""
