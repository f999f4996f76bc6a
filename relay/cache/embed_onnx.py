"""Vectors by a sentence model of the operator's: `model.onnx` and `tokenizer.json` of a directory.

Any encoder of the sentence-transformers family whose vectors are the mean of its token states
(all-MiniLM, multilingual-e5, ...). It runs on the CPU in a thread of its own, one text at a time:
a batch would make every text wait for the longest.
"""

from __future__ import annotations

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from relay.cache.embed_base import EmbeddingFailed, Vector
from relay.cache.semantic_error import SemanticCacheError
from relay.content import GenerateRequest
from relay.policy.base import Legs

_MOST_TOKENS: Final = 256


class OnnxEmbedder:
    """One model in one thread."""

    default_threshold = 0.80

    def __init__(self, session: Any, tokenizer: Any, name: str) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = {row.name for row in session.get_inputs()}
        self._thread = ThreadPoolExecutor(1, "embed-onnx")
        self.name = name

    @classmethod
    def load(cls, directory: Path) -> OnnxEmbedder:
        """Read a model: some tenths of a second, of a thread.

        Raises:
            SemanticCacheError: a file is missing or cannot be read, by its name.
        """
        model, words = directory / "model.onnx", directory / "tokenizer.json"
        for path in (model, words):
            if not path.is_file():
                raise SemanticCacheError(f"cache.semantic.directory: there is no {path}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            tokenizer = Tokenizer.from_file(str(words))
            tokenizer.enable_truncation(max_length=_MOST_TOKENS)
            session = onnxruntime.InferenceSession(
                str(model), sess_options=options, providers=["CPUExecutionProvider"]
            )
            digest = hashlib.sha256(model.read_bytes() + words.read_bytes()).hexdigest()
        except Exception as error:
            raise SemanticCacheError(
                f"cache.semantic.directory: {directory} holds no model that can be read: {error}"
            ) from error
        embedder = cls(session, tokenizer, f"onnx/{digest[:16]}")
        try:
            embedder.embed("The first run is the slowest.")
        except EmbeddingFailed as error:
            raise SemanticCacheError(f"cache.semantic.directory: {directory}: {error}") from error
        return embedder

    async def vector(self, text: str, request: GenerateRequest, legs: Legs) -> Vector:
        """See `Embedder.vector`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self.embed, text)

    def embed(self, text: str) -> Vector:
        """Of one text, here and now: milliseconds.

        Raises:
            EmbeddingFailed: the model gives none.
        """
        encoded = self._tokenizer.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)
        mask = np.array([encoded.attention_mask], dtype=np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask}
        if "token_type_ids" in self._inputs:
            feeds["token_type_ids"] = np.zeros_like(ids)
        try:
            states = self._session.run(None, feeds)[0]
        except Exception as error:
            raise EmbeddingFailed(f"the model cannot read it: {type(error).__name__}") from error
        pooled = states if states.ndim == 2 else (states * mask[..., None]).sum(1) / mask.sum(1)
        vector = pooled[0].astype(np.float32)
        length = float(np.linalg.norm(vector))
        if not 0 < length < float("inf"):
            raise EmbeddingFailed("the model gave no direction")
        return vector / length

    async def aclose(self) -> None:
        """Let the thread go; a text that it has at the time is not waited for."""
        self._thread.shutdown(wait=False, cancel_futures=True)
