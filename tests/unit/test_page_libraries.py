"""The page's web libraries: only what the lock file names is taken, once, from any registry."""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from isthmus.edge.page import libraries
from isthmus.edge.page.libraries import Library, WrongArchive, fetch, missing, wanted


def archive_of(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return packed.getvalue()


ARCHIVE = archive_of({"dist/drawn.js": b"export {}", "LICENSE": b"free", "README.md": b"words"})
DRAWN = Library(
    "@shapes/drawn",
    "1.2.3",
    "sha512-" + base64.b64encode(hashlib.sha512(ARCHIVE).digest()).decode("ascii"),
    ("dist/drawn.js", "LICENSE"),
)


class Registry:
    """A registry that has one archive, and remembers what was asked for."""

    def __init__(self) -> None:
        self.content = ARCHIVE
        self.asked: list[str] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(registry.content)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/mirror/"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry()
    thread = threading.Thread(target=registry.server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setenv("npm_config_registry", registry.url)
    monkeypatch.setattr(libraries, "wanted", lambda *, dev=False: (DRAWN,))
    yield registry
    registry.server.shutdown()
    thread.join()
    registry.server.server_close()


def test_only_the_wanted_files_are_taken_from_a_mirror(registry: Registry, tmp_path: Path) -> None:
    assert fetch(tmp_path) == ("@shapes/drawn",)
    folder = tmp_path / "shapes-drawn"
    assert registry.asked == ["/mirror/@shapes/drawn/-/drawn-1.2.3.tgz"]
    assert (folder / "drawn.js").read_bytes() == b"export {}"
    assert sorted(path.name for path in folder.iterdir()) == ["INTEGRITY", "LICENSE", "drawn.js"]


def test_what_is_there_is_not_fetched_again(registry: Registry, tmp_path: Path) -> None:
    fetch(tmp_path)
    assert fetch(tmp_path) == ()
    assert len(registry.asked) == 1
    (tmp_path / "shapes-drawn" / "drawn.js").unlink()
    assert missing(tmp_path) == ("@shapes/drawn",)
    assert fetch(tmp_path) == ("@shapes/drawn",)


def test_an_archive_with_another_digest_is_refused(registry: Registry, tmp_path: Path) -> None:
    registry.content = archive_of({"dist/drawn.js": b"steal()", "LICENSE": b"free"})
    with pytest.raises(WrongArchive, match=r"@shapes/drawn 1\.2\.3"):
        fetch(tmp_path)
    assert list(tmp_path.rglob("*.js")) == []


def test_a_build_without_a_network_goes_on_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    monkeypatch.setattr("sys.argv", ["libraries.py", "--into", str(tmp_path), "--optional"])
    assert libraries.main() == 0
    assert "could not be fetched" in capsys.readouterr().err
    monkeypatch.setattr("sys.argv", ["libraries.py", "--into", str(tmp_path)])
    assert libraries.main() == 1


def test_every_library_is_pinned_and_comes_with_a_licence() -> None:
    for library in (*wanted(), *wanted(dev=True)):
        assert library.integrity.startswith("sha512-"), library.name
        assert "LICENSE" in library.files, library.name
