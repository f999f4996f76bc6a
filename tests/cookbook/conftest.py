"""The shared emulator process."""

from tests.fakes.emulator_process import emulator

__all__ = ["emulator"]
