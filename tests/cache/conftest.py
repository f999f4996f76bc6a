"""Order of two libraries: onnxruntime crashes where usearch was loaded before it."""

from __future__ import annotations

import importlib
import importlib.util

if importlib.util.find_spec("onnxruntime") is not None:
    importlib.import_module("onnxruntime")
