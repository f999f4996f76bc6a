"""Scanners over what is asked and what is answered, with a bounded hold-back on streams."""
