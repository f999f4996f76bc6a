"""rtrelay: a low-latency relay between real-time agents and LLM providers."""

__version__ = "0.1.0"
