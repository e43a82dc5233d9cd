"""llama.cpp as a contender, run by the interpreter that has llama-cpp-python.

It knows nothing of Isthmus, since that environment has none: `python peer.py serve FILE
THREADS CONTEXT` answers requests as `base` describes. The figures are those of bare `llama_decode`
calls and an argmax: less than a request goes through in our own.
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

# The same work as in `base`, which cannot be imported here; a test holds them together.
DECODED = 32
STREAM_PROMPT = 32
STREAM_DECODED = 64
STREAMS = 5
RSS_PREFILL = 512


class Peer:
    """One model and one context of llama.cpp, with its defaults but for threads and context."""

    def __init__(self, path: str, threads: int, context: int) -> None:
        began = time.perf_counter()
        llama_cpp.llama_backend_init()
        self._quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self._quiet, ctypes.c_void_p(0))
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params()
        )
        if not self.model:
            raise SystemExit(f"llama.cpp cannot load {path}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = context
        params.n_seq_max = STREAMS
        params.kv_unified = True
        params.n_threads = params.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.memory = llama_cpp.llama_get_memory(self.context)
        vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.vocab = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self.load_s = time.perf_counter() - began
        self._batch = llama_cpp.llama_batch_init(2048, 0, 1)
        self._rng = np.random.default_rng(1)

    def run(self, rows: list[tuple[int, int, int, bool]]) -> None:
        """Compute tokens, each with its position, its sequence and whether its logits count."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[i] = token
            batch.pos[i] = position
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = sequence
            batch.logits[i] = wanted
        status = llama_cpp.llama_decode(self.context, batch)
        if status != 0:
            raise SystemExit(f"llama_decode failed with status {status}")

    def logits(self, row: int) -> Any:
        """Of the row of the last batch. [vocab] float32, valid until the next one"""
        pointer = llama_cpp.llama_get_logits_ith(self.context, row)
        return np.ctypeslib.as_array(pointer, shape=(self.vocab,))

    def feed(self, count: int, sequence: int = 0) -> int:
        """A new random prompt of `count` tokens; the best token after it."""
        tokens = self._rng.integers(1000, self.vocab, count).tolist()
        for at in range(0, count, 2048):
            part = tokens[at : at + 2048]
            self.run([(t, at + i, sequence, at + i == count - 1) for i, t in enumerate(part)])
        return int(self.logits(-1).argmax())

    def clear(self) -> None:
        """Forget everything."""
        llama_cpp.llama_memory_clear(self.memory, True)

    def prefill(self, count: int) -> float:
        """Tokens a second of a prompt, up to its first token."""
        self.clear()
        began = time.perf_counter()
        self.feed(count)
        return count / (time.perf_counter() - began)

    def decode(self, count: int) -> float:
        """Tokens a second of the last ones before position `count`."""
        self.clear()
        start = count - DECODED
        token = self.feed(start)
        began = time.perf_counter()
        for position in range(start, count - 1):
            self.run([(token, position, 0, True)])
            token = int(self.logits(0).argmax())
        return (DECODED - 1) / (time.perf_counter() - began)

    def batch(self, count: int) -> float:
        """Tokens a second, all together, of `count` conversations at once."""
        self.clear()
        tokens = [self.feed(STREAM_PROMPT, sequence) for sequence in range(count)]
        began = time.perf_counter()
        for step in range(STREAM_DECODED - 1):
            self.run([(t, STREAM_PROMPT + step, s, True) for s, t in enumerate(tokens)])
            tokens = [int(self.logits(row).argmax()) for row in range(count)]
        return count * (STREAM_DECODED - 1) / (time.perf_counter() - began)


def serve(path: str, threads: str, context: str) -> None:
    """Introduce itself, then answer requests."""
    peer = Peer(path, int(threads), int(context))
    size = int(llama_cpp.llama_model_size(peer.model))
    _say(
        {
            "prefill_backend": "llama.cpp",
            "decode_backend": "llama.cpp",
            "device": f"llama-cpp-python {llama_cpp.__version__}",
            "threads": int(threads),
            "load_s": peer.load_s,
            "bytes_per_token": size,
            "context": int(context),
        }
    )
    for line in sys.stdin:
        request = json.loads(line)
        _say({"value": getattr(peer, request["do"])(request["of"])})


def memory(path: str, threads: str, context: str, longest: str) -> None:
    """Prefill 512 tokens, decode at the longest context, print the peak of resident memory."""
    peer = Peer(path, int(threads), int(context))
    peer.prefill(RSS_PREFILL)
    peer.decode(int(longest))
    status = Path("/proc/self/status").read_text("ascii")
    peak_kib = int(status.split("VmHWM:")[1].split()[0])
    _say({"load_s": peer.load_s, "rss_mb": peak_kib * 1024 / 1e6})


def first_token(path: str, threads: str, prompt: str) -> None:
    """Print the first token after `prompt`."""
    model = llama_cpp.Llama(path, n_threads=int(threads), verbose=False)
    for part in model.create_completion(prompt, max_tokens=1, temperature=0, stream=True):
        sys.stdout.write(part["choices"][0]["text"] or "\n")
        sys.stdout.flush()


def quantize(path: str, to: str, threads: str) -> None:
    """Requantize a model file to Q4_0, for which llama.cpp has its fastest kernels."""
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0
    params.allow_requantize = True
    params.nthread = int(threads)
    status = llama_cpp.llama_model_quantize(path.encode(), to.encode(), ctypes.byref(params))
    if status != 0:
        raise SystemExit(f"llama_model_quantize failed with status {status}")


def logits(path: str, threads: str, tokens: str, to: str) -> None:
    """Save the logits after each of the tokens (a JSON list) as a .npy file. [tokens, vocab]"""
    ids = json.loads(Path(tokens).read_text("ascii"))
    peer = Peer(path, int(threads), len(ids) + DECODED)
    rows = []
    for at in range(0, len(ids), 128):
        part = ids[at : at + 128]
        peer.run([(t, at + i, 0, True) for i, t in enumerate(part)])
        rows += [peer.logits(row).copy() for row in range(len(part))]
    np.save(to, np.stack(rows))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    {f.__name__: f for f in (serve, memory, first_token, quantize, logits)}[sys.argv[1]](
        *sys.argv[2:]
    )
