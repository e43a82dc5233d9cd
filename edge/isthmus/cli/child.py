"""A child process that never outlives us: a gateway that a command starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from isthmus.cli import leash
from isthmus.core.errors import ConfigError


class Child:
    """`isthmus ARGUMENTS`, or another module, as a process of its own, its output in a file."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        module: str = "isthmus.cli.main",
        python: str = sys.executable,
    ) -> None:
        """Start it. Raises `ConfigError` where its output cannot be kept."""
        self.log_path = log_path
        try:
            log_path.parent.mkdir(parents=True, exist_ok=True)
            output = log_path.open("wb")
        except OSError as error:
            raise ConfigError(
                f"cannot write {log_path} ({error.strerror}): make its folder writable, or set "
                "ISTHMUS_HOME to another folder",
                field="ISTHMUS_HOME",
            ) from None
        with output as log:
            self._process = subprocess.Popen(
                [python, leash.__file__, str(os.getpid()), module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                # Ctrl-C in the terminal reaches us alone; we pass it on in our own time.
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        """Whether it is still there."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait(self) -> int:
        """Block until it ends; its exit status."""
        return self._process.wait()

    def terminate(self) -> None:
        """Ask it to end."""
        if self.running:
            self._process.terminate()

    def kill(self) -> None:
        """End it without a word to it."""
        self._process.kill()
        self._process.wait()

    def kill_after(self, seconds: float) -> None:
        """Give it `seconds` to end by itself, then end it."""
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self, lines: int = 5) -> str:
        """The end of its output."""
        text = self.log_path.read_text("utf-8", errors="replace")
        return "\n".join(text.strip().splitlines()[-lines:])
