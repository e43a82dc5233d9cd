"""The process that trials run in, with a time limit each: it may compute wrong, crash or hang.

One process serves many trials, since starting it costs more than most of them. Where it ends in a
trial that was not its first, or takes too long, the trial is tried again in a fresh one: the one
before may have been the cause.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from isthmus.kernels.errors import BackendUnavailable

_START_S = 60.0
_LIMIT_S = 20.0
"""Of a trial: a large kernel takes PoCL about two seconds to compile."""
_GRACE_S = 3.0

Serve = Callable[[Any], Any]
Make = Callable[[Any], Serve]
"""Called in the child with what `Child` was given; what it returns answers one job after the other.
A function or class at the top of a module, since it travels by name."""


class ChildFailed(Exception):
    """A job ended the process, or its time was up. Says how."""


class Child:
    """Answers jobs in a process of its own, which is started again when a job ends it.

    Its drivers' own caches lie in a folder that goes with it, even when this process is killed:
    thousands of trials would fill the user's.
    """

    def __init__(self, make: Make, setup: Any, *, limit_s: float = _LIMIT_S) -> None:
        self._make = make
        self._setup = setup
        self._limit_s = limit_s
        self._process: Any = None
        self._pipe: Connection | None = None
        self._abandoned = False
        self._scratch = tempfile.TemporaryDirectory(prefix="isthmus-tune-")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, job: Any, *, limit_s: float | None = None) -> Any:
        """The answer. Raises `ChildFailed`, or `BackendUnavailable` when it does not even start."""
        limit = self._limit_s if limit_s is None else limit_s
        while True:
            fresh = self._pipe is None
            pipe = self._start() if self._pipe is None else self._pipe
            if self._abandoned:
                self._stop(wait_s=0)
                raise ChildFailed("broken off")
            try:
                pipe.send((job, limit))
                if not pipe.poll(limit):
                    self._stop(wait_s=0)
                    if not fresh:
                        continue  # the machine may have stood still
                    raise ChildFailed(f"no end after {limit:g} s")
                kind, answer = pipe.recv()
            except (EOFError, OSError):
                told = self._stop()
                if fresh:
                    raise ChildFailed(told) from None
                continue
            if kind == "raised":
                raise ChildFailed(answer)
            return answer

    def _start(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        scratch = self._scratch.name
        arguments = (theirs, self._make, self._setup, scratch, os.getpid())
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self._pipe = ours
        try:
            kind, answer = ours.recv() if ours.poll(_START_S) else ("raised", "it does not start")
        except (EOFError, OSError):
            kind, answer = "raised", self._stop()
        if kind == "raised":
            self._stop()
            raise BackendUnavailable("the device cannot be opened", {"opencl": answer})
        return ours

    def _stop(self, wait_s: float = _GRACE_S) -> str:
        """End the process, if it does not end by itself, and say how it ended."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is None:
            return ""
        process.join(wait_s)
        if process.is_alive():
            process.kill()
            process.join()
        code = process.exitcode
        process.close()
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"crashed ({signal.Signals(-code).name})"
        return f"ended with status {code}"

    def abandon(self) -> None:
        """From another thread: let what is asked fail now, and all that would be asked later."""
        self._abandoned = True
        process = self._process
        if process is not None:
            with suppress(ValueError):  # it has just been stopped
                process.kill()

    def close(self) -> None:
        """End the process and remove what it left."""
        if self._pipe is not None:
            with suppress(OSError):
                self._pipe.send(None)
        self._stop()
        with suppress(OSError):
            self._scratch.cleanup()


def _serve(pipe: Connection, make: Make, setup: Any, scratch: str, parent: int) -> None:
    """The child: answer until the parent is gone, and then leave nothing of it."""
    os.environ["POCL_CACHE_DIR"] = os.environ["CUDA_CACHE_PATH"] = scratch
    os.environ["POCL_KERNEL_CACHE"] = "0"  # a program's files go with it
    _quiet()
    # A kernel that hangs would outlive a parent that was killed: this ends it from within.
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        faulthandler.dump_traceback_later(_START_S, exit=True, file=nowhere)
        try:
            serve = make(setup)
        except (OSError, ImportError, RuntimeError) as error:
            pipe.send(("raised", str(error)))
            return
        pipe.send(("ready", None))
        faulthandler.cancel_dump_traceback_later()
        try:
            while (asked := pipe.recv()) is not None:
                job, limit_s = asked
                faulthandler.dump_traceback_later(limit_s + _GRACE_S, exit=True, file=nowhere)
                pipe.send(_answer(serve, job))
                faulthandler.cancel_dump_traceback_later()
        except (EOFError, OSError):
            if _gone(parent):
                shutil.rmtree(scratch, ignore_errors=True)


def _gone(parent: int) -> bool:
    """Whether the parent has ended; its end of the pipe closes a little earlier than that."""
    end = time.monotonic() + _GRACE_S / 3
    while os.getppid() == parent:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _answer(serve: Serve, job: Any) -> tuple[str, Any]:
    try:
        return "done", serve(job)
    except Exception as error:  # whatever a driver does to us: it is the trial's outcome
        return "raised", f"{type(error).__name__}: {error}"


def _quiet() -> None:
    """Send what drivers and crash handlers print nowhere, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.flush()
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
