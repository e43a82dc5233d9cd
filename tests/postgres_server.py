"""The PostgreSQL server of `make test-postgres`, as something that fails."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil


def _control(*arguments: str) -> None:
    command = shlex.split(os.environ["ISTHMUS_TEST_POSTGRES_CTL"])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, *arguments], check=True, timeout=120, cwd="/", **quiet)


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """No server meanwhile, as after a crash."""
    _control("stop", "-m", "immediate")
    try:
        yield
    finally:
        _control("start")


@contextlib.contextmanager
def hanging() -> Iterator[None]:
    """A server that takes connections and says nothing on them, old or new, meanwhile."""
    data = Path(os.environ["ISTHMUS_TEST_POSTGRES_DATA"])
    first = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
    first.send_signal(signal.SIGSTOP)
    others = first.children(recursive=True)
    for one in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for one in (*others, first):
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGCONT)
