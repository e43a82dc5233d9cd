"""VLLM's metrics without a vLLM: a page that vLLM 0.32 served under load, as if that went on.

`vllm_metrics.txt` was scraped from its CPU build with SmolLM2-135M, n-gram speculation and prefix
caching, while it answered; what was of the web server, and when series were made, is left out.
`make test-vllm` holds the names in it to a vLLM that runs.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

RECORDED: Final = Path(__file__).parent / "vllm_metrics.txt"
_SAMPLE: Final = re.compile(r"(?P<series>(?P<name>[\w:]+).*) (?P<value>\S+)")
_AGAIN_S: Final = 10.0
"""How often the load of the recording comes again."""


def names(page: str) -> set[str]:
    """Of the families in a page of metrics."""
    return {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE ")}


def grown(page: str, times: float) -> str:
    """The page when all that it counts has been counted so often; gauges stay."""
    kinds = dict(line.split()[2:] for line in page.splitlines() if line.startswith("# TYPE "))
    counted = {name for name, kind in kinds.items() if kind in {"counter", "histogram"}}

    def line_of(line: str) -> str:
        match = _SAMPLE.fullmatch(line)
        if match is None or line.startswith("#"):
            return line
        family = match["name"]
        if family not in kinds:
            family = re.sub(r"_(bucket|count|sum)$", "", family)
        if family not in counted:
            return line
        return f"{match['series']} {float(match['value']) * times}"

    return "\n".join(map(line_of, page.splitlines())) + "\n"


@contextlib.contextmanager
def replayed(port: int) -> Iterator[None]:
    """Serve the recording on a port of loopback; who asks for an answer there gets a failure."""
    page, began_s = RECORDED.read_text(encoding="utf-8"), time.monotonic()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            times = 1 + (time.monotonic() - began_s) / _AGAIN_S
            self.wfile.write(grown(page, times).encode())

        def do_POST(self) -> None:
            self.send_error(500)

        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
