"""What approximations cost: perplexity, and KL divergence to the float32 reference, on a text."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isthmus.core.errors import InternalError, InvalidRequest
from isthmus.engine.bench.compare import model_path, peer_command
from isthmus.engine.perplexity import WINDOW, all_logits
from isthmus.engine.prepared import load
from isthmus.engine.tokens.tokenizer import Tokenizer
from isthmus.kernels.base import F32, KVType
from isthmus.kernels.native import NativeBackend, default_threads
from isthmus.kernels.numpy_ref import NumpyBackend

F64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How one way of computing predicts a text, and how far it is from the float32 reference."""

    name: str
    perplexity: float
    kl_mean: float
    """Kullback-Leibler divergence of its next-token distributions from the reference's, in nats."""
    kl_p99: float
    same_best: float
    """The part of the positions at which both have the same likeliest token."""


def compare(
    model: str, text: str, *, threads: int | None = None, peer: Path | None = None
) -> Iterator[Accuracy]:
    """The reference, the native backend in its several precisions, and llama.cpp.

    The text is cut at one window of the model. Raises `InvalidRequest` when it has fewer than two
    tokens, `ModelUnavailable`, `InternalError` when the peer fails.
    """
    path, count = model_path(model), threads or default_threads()
    reference = NumpyBackend()
    loaded = load(path, reference)
    tokens = Tokenizer(loaded.tokenizer).encode(text)[: min(WINDOW, loaded.config.context)]
    if len(tokens) < 2:
        raise InvalidRequest("the text has no two tokens to predict one from the other")
    expected = _log_probabilities(all_logits(loaded, reference, tokens))
    yield _measured("float32", expected, expected, tokens)
    precisions = [
        (16, KVType.FLOAT32),
        (16, KVType.FLOAT16),
        (16, KVType.INT8),
        (8, KVType.FLOAT32),
    ]
    ways: dict[str, Callable[[], F32]] = {
        f"native, {bits}-bit activations, {kv} cache": partial(
            _native_logits, path, tokens, count, bits, kv
        )
        for bits, kv in precisions
    }
    if peer is not None:
        ways["llama.cpp"] = lambda: _peer_logits(peer, path, tokens, count)
    for name, logits in ways.items():
        yield _measured(name, expected, _log_probabilities(logits()), tokens)


def _measured(name: str, expected: F64, found: F64, tokens: list[int]) -> Accuracy:
    divergence = (np.exp(expected) * (expected - found)).sum(axis=1)
    return Accuracy(
        name,
        perplexity=float(np.exp(-found[np.arange(len(tokens) - 1), tokens[1:]].mean())),
        kl_mean=float(divergence.mean()),
        kl_p99=float(np.quantile(divergence, 0.99)),
        same_best=float((found.argmax(axis=1) == expected.argmax(axis=1)).mean()),
    )


def _log_probabilities(logits: F32) -> F64:
    """logits, result: [tokens, vocab]"""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=1, keepdims=True))
    return wide


def _native_logits(path: Path, tokens: list[int], threads: int, bits: int, kv: KVType) -> F32:
    backend = NativeBackend(threads=threads, activation_bits=bits)
    return all_logits(load(path, backend), backend, tokens, kv)


def _peer_logits(python: Path, path: Path, tokens: list[int], threads: int) -> F32:
    with tempfile.TemporaryDirectory(prefix="isthmus-bench-") as folder:
        asked, answer = Path(folder) / "tokens.json", Path(folder) / "logits.npy"
        asked.write_text(json.dumps(tokens), "ascii")
        command = peer_command(python, "logits", str(path), str(threads), str(asked), str(answer))
        status = subprocess.run(command, check=False).returncode
        if status != 0:
            raise InternalError(f"llama.cpp failed (status {status}); its own words are above")
        logits: F32 = np.load(answer)
    return logits
