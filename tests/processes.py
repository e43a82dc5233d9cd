"""Programs as processes of their own, as in production."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path


class Program:
    """`isthmus …` as a process; its output is read as it comes and shown when a test fails."""

    def __init__(
        self,
        *arguments: str,
        path: Path | None = None,
        folder: Path | None = None,
        **environment: str,
    ):
        """`path` is another program than isthmus, `folder` where it runs."""
        self.process = subprocess.Popen(
            [str(path or Path(sys.executable).with_name("isthmus")), *arguments],
            # A group of its own: what it starts can be killed with it.
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=os.environ | environment,
        )
        self.lines: queue.Queue[str] = queue.Queue()
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            sys.stdout.write(line)
            self.said.append(line)
            self.lines.put(line)
        self.lines.put("")

    def wait_for(self, pattern, within_s):
        """The match of the first line of output from now on that has `pattern`."""
        until_s = time.monotonic() + within_s
        while True:
            line = self.lines.get(timeout=max(0.1, until_s - time.monotonic()))
            assert line, f"it ended with status {self.process.wait()}"
            if found := re.search(pattern, line):
                return found

    def kill(self):
        """End it and all that it started, without a word."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(5)
        self.process.stdout.close()

    def stop(self):
        """Ask it to end and return its status and how long it took in seconds."""
        began_s = time.monotonic()
        self.process.terminate()
        try:
            status = self.process.wait(20)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            self._reader.join(5)
            self.process.stdout.close()
        return status, time.monotonic() - began_s
