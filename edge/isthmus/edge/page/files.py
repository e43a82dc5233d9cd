"""The page's own files, as they lie in `web/`: read at each request, known again by their hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from isthmus.edge.page.libraries import missing

FOLDER: Final = Path(__file__).parent / "web"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""By the end of the name; what is not here is not served. Not the system's own table: one that
lacks .js would break the page."""

HEADERS: Final = {
    # Whatever a model writes: no script of its own, and no address that a picture would tell.
    "content-security-policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # A newer version shows at once; what has not changed costs one question.
    "cache-control": "no-cache",
}


class Files:
    """Serves the files below a folder, and no others."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (folder or FOLDER).resolve()

    def index(self, request: Request) -> Response:
        """GET /"""
        if not missing(self._folder / "lib"):
            return self._served(request, "index.html")
        told = self._served(request, "missing.html")
        told.status_code = 503
        return told

    def file(self, request: Request) -> Response:
        """GET /ui/{path}"""
        return self._served(request, request.path_params["path"])

    def _served(self, request: Request, name: str) -> Response:
        path = (self._folder / name).resolve()
        kind = _TYPES.get(path.suffix)
        if kind is None or not path.is_relative_to(self._folder) or not path.is_file():
            raise HTTPException(404)
        content = path.read_bytes()
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = HEADERS | {"etag": etag}
        known = request.headers.get("if-none-match", "").replace("W/", "")
        if etag in [one.strip() for one in known.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers | {"content-type": kind})
