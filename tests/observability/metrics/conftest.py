"""The emulator, for tests on real processes."""

from __future__ import annotations

from tests.fakes.emulator_process import emulator as emulator
