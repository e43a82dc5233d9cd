"""Kernels that are wrong, that crash and that hang, as a driver may make them of right ones."""

from __future__ import annotations

from typing import Any

from isthmus.kernels.opencl import programs
from isthmus.kernels.tuner.child import Serve
from isthmus.kernels.tuner.trials import Evaluator, Setup

WRONG, CRASHING, HANGING = "wgs=2", "wgs=4", "wgs=8"
"""The tunable by which a variant of gemv.n is broken in each way."""
_READ = programs.read_source


def broken_evaluator(setup: Setup) -> Serve:
    """An `Evaluator` whose driver breaks some kernels."""
    programs.read_source = _broken  # type: ignore[assignment]
    return Evaluator(setup)


def _broken(name: str) -> str:
    text = _READ(name)
    if name != "product_n.cl":
        return text
    body = text.index("{", text.index("void product("))
    ways = """
#if WGS == 2
  x += 1;
#elif WGS == 4
  *(volatile __global int*)(size_t)(step[counter] - 1) = 1;
#elif WGS == 8
  for (volatile int i = 0; step[counter] > 0; ++i) { }
#endif
"""
    return text[: body + 1] + ways + text[body + 1 :]


def scripted(_setup: Any) -> Serve:
    """Answers a word with itself, but dies of some and never returns from others."""
    return _say


def _say(word: str) -> str:
    import ctypes
    import os
    import time

    if word == "crash":
        ctypes.string_at(0)
    if word == "exit":
        os._exit(3)
    if word == "hang":
        time.sleep(600)
    if word == "sleep":
        time.sleep(1)
    if word == "raise":
        raise RuntimeError("no such word")
    return word


def crash_second(_setup: Any) -> Serve:
    """Dies of whatever comes second: the first has left its memory in ruins."""
    seen: list[str] = []

    def serve(word: str) -> str:
        seen.append(word)
        return _say("exit" if len(seen) == 2 else word)

    return serve


def unable(_setup: Any) -> Serve:
    """A device that does not open."""
    raise OSError("no such device")
