"""What is measured, and how a contender is asked for it.

A contender is a program that answers one JSON object a line with another, so that a peer can live
in an environment of its own. Its first line says what it is (`Hello`); then it is asked for
`prefill`, `decode` and `batch`, in turns with the others, and ends when its input ends. The engine
alone is asked for `speedup` and `slowdown`, which compare it with itself. Memory and the time to
the first token belong to fresh processes and are asked for with other arguments.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from isthmus.core.errors import InternalError
from isthmus.engine.bench.prompts import EDITING, OTHER

PREFILL = (128, 512, 2048)
"""Lengths of the prompts."""
CONTEXTS = (64, 256, 2048)
"""Decoding is timed over the last `DECODED` tokens before each of these positions."""
DECODED = 32
STREAMS = (1, 5)
"""Conversations at once, each decoding after a prompt of `STREAM_PROMPT` tokens."""
STREAM_PROMPT = 32
STREAM_DECODED = 64
RSS_PREFILL = 512
"""The memory process prefills this many tokens and then decodes at the longest context."""
ARRIVING = 2000
"""Tokens of the prompt that arrives while a conversation is being answered."""
ROOM = 1000
"""Positions for one of `prompts` and its answer, or for the conversation that is interrupted."""
ANSWER = 128
"""Tokens of an answer to one of `prompts` at most."""
Lengths = Mapping[str, Sequence[int]]
"""What is asked for, by request."""
FIRST_PROMPT = "The capital of France is"


@dataclass(frozen=True, slots=True)
class Hello:
    """How a contender introduces itself."""

    prefill_backend: str
    decode_backend: str
    device: str
    threads: int
    load_s: float
    bytes_per_token: int | None
    """Bytes of weights that a decoded token reads; None where nobody counts them."""
    context: int
    """The most positions that it can hold."""


@dataclass(frozen=True, slots=True)
class Contender:
    """The commands that run one."""

    name: str
    serve: tuple[str, ...]
    """Answers requests, as above."""
    memory: tuple[str, ...]
    """Does the work of `rss_mb` and prints `{"load_s": …, "rss_mb": …}`."""
    first_token: tuple[str, ...]
    """Prints the first token of `FIRST_PROMPT` as soon as it is there."""


class Session:
    """A contender that is running. Use as a context manager."""

    def __init__(self, contender: Contender) -> None:
        self._name = contender.name
        self._process = subprocess.Popen(
            contender.serve, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.hello = Hello(**self._answer())
        except InternalError:
            self.close()
            raise

    def ask(self, what: str, of: int | str) -> float:
        """Tokens a second of `prefill`, `decode` or `batch` for this length, context or number.

        Or the factor by which speculation speeds up (`speedup`) the answer to this prompt, or an
        arriving prompt of this length slows down (`slowdown`) another answer.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": what, "of": of}) + "\n")
        self._process.stdin.flush()
        return float(self._answer()["value"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return last_object(self._process.stdout.readline(), self._name)

    def close(self) -> None:
        """End it; it has nothing to lose."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def fresh(contender: Contender) -> dict[str, float]:
    """`load_s` and `rss_mb` (the peak, in 10^6 bytes) of a fresh process with a full context."""
    done = subprocess.run(contender.memory, stdout=subprocess.PIPE, text=True, check=False)
    answer = last_object(done.stdout, contender.name)
    return {key: float(answer[key]) for key in ("load_s", "rss_mb")}


def first_token_s(contender: Contender) -> float:
    """From the start of a fresh process to the first byte of its first token."""
    began = time.perf_counter()
    with subprocess.Popen(
        contender.first_token, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        first = process.stdout.read(1)
        took = time.perf_counter() - began
        process.communicate()
    if not first:
        raise InternalError(f"{contender.name} ended without a token")
    return took


def needed_context() -> int:
    """Positions that the longest row of all contenders needs, with room for its answer."""
    return max(*PREFILL, *CONTEXTS) + DECODED


def measurable(context: int) -> Lengths:
    """The lengths that a contender of this context can be asked for, by request."""
    return {
        "prefill": [n for n in PREFILL if n < context],
        "decode": [n for n in CONTEXTS if n < context],
        "batch": [n for n in STREAMS if n * (STREAM_PROMPT + STREAM_DECODED) <= context],
    }


def of_itself(context: int) -> Mapping[str, Sequence[int | str]]:
    """What the engine is asked about itself, by request."""
    return {
        "speedup": [*EDITING, *OTHER] if context >= ROOM else [],
        "slowdown": [ARRIVING] if context >= ARRIVING + ROOM else [],
    }


def last_object(text: str, name: str) -> dict[str, Any]:
    """The answer in the last line. Raises `InternalError` when there is none."""
    lines = text.strip().splitlines()
    try:
        answer: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise InternalError(f"{name} failed; its own words are above") from None
    return answer
