"""Gateways, and what stands beside them in a measurement, as processes of their own."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from isthmus.cli.child import Child
from isthmus.core.errors import Unavailable

_READY_S = 60.0
_POLL_S = 0.02
_KILL_S = 10.0


class Served(Child):
    """A child that says where it listens: one JSON object on a line of its output."""

    def ready(self, seconds: float = _READY_S) -> dict[str, Any]:
        """Block until it said so. Raises `Unavailable` when it ends before, or takes too long."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            for line in self.log_path.read_text("utf-8", errors="replace").splitlines(True):
                if line.startswith("{") and line.endswith("\n"):
                    told: dict[str, Any] = json.loads(line)
                    return told
            if not self.running:
                raise Unavailable(f"the process ended: {self.last_words()}")
            time.sleep(_POLL_S)
        raise Unavailable(f"the process did not start within {seconds:g} s: {self.last_words()}")

    @property
    def rss_mb(self) -> float:
        """Its resident memory, in millions of bytes."""
        import psutil

        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    @property
    def cpu_s(self) -> float:
        """The processor time that it has used, in seconds."""
        import psutil

        used = psutil.Process(self.pid).cpu_times()
        return float(used.user + used.system)


def start_gateway(
    folder: Path,
    *,
    listen: str = "127.0.0.1:0",
    name: str = "gateway",
    home: Path | None = None,
    **settings: Any,
) -> Served:
    """`isthmus cloud serve` with `settings` of `CloudConfig`, its log in `folder`; not yet ready.

    A scripted backend where `settings` name no other; its state is kept in `home`, by default in
    `folder`.
    """
    chosen = {"listen": listen, "metrics_listen": ""}
    chosen |= {"backend": {"kind": "scripted", "model": "scripted"}} | settings
    environment = {
        f"ISTHMUS_CLOUD_{key.upper()}": value if isinstance(value, str) else json.dumps(value)
        for key, value in chosen.items()
    }
    environment["ISTHMUS_HOME"] = str(home or folder)
    log_path = folder / f"{name}.log"
    return Served(("cloud", "serve", "--json"), environment=environment, log_path=log_path)


def start_module(
    folder: Path,
    module: str,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
) -> Served:
    """Another module of ours that says where it listens."""
    return Served(
        arguments,
        environment=environment or {},
        log_path=folder / f"{module.rpartition('.')[2]}.log",
        module=module,
    )


@contextlib.contextmanager
def ended(child: Served) -> Iterator[Served]:
    """End it with the block."""
    try:
        yield child
    finally:
        child.terminate()
        child.kill_after(_KILL_S)
