"""The web libraries that the page is made of, fetched from npm without node.

`package-lock.json`, which npm writes, names every version and the SHA-512 of its archive. The build
of the package runs this file as a script (edge/build_backend.py), so that a wheel and an sdist hold
the libraries; the repository does not. Where the build had no network,
`python -m isthmus.edge.page.libraries` fetches them later.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import os
import sys
import tarfile
import tempfile
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIBRARIES = HERE / "web" / "lib"
"""Where the page finds them: a folder for each library, with its licence."""
CURE = "python -m isthmus.edge.page.libraries"
"""What brings them where they are missing."""

_REGISTRY = "https://registry.npmjs.org"
_TIMEOUT_S = 20.0
_MAX_ARCHIVE_BYTES = 32 * 1024 * 1024
_STAMP = "INTEGRITY"
"""The file in a library's folder that names the archive it came from."""

_FILES = {
    "@highlightjs/cdn-assets": ("es/highlight.min.js", "LICENSE"),
    "dompurify": ("dist/purify.es.mjs", "LICENSE"),
    "htm": ("preact/standalone.module.js", "LICENSE"),
    "marked": ("lib/marked.esm.js", "LICENSE"),
    # htm's standalone module holds preact, and not the licence that preact asks to be kept.
    "preact": ("LICENSE",),
    "uplot": ("dist/uPlot.esm.js", "dist/uPlot.min.css", "LICENSE"),
}
_DEV_FILES = {"axe-core": ("axe.min.js", "LICENSE")}


class WrongArchive(Exception):
    """The registry sent something else than what the lock file names."""


@dataclass(frozen=True, slots=True)
class Library:
    """One library of the lock file, and which of its files are wanted."""

    name: str
    version: str
    integrity: str
    """As npm writes it: `sha512-` and the digest in base64."""
    files: tuple[str, ...]

    @property
    def folder(self) -> str:
        """Where it lies: its name without the scope's slash."""
        return self.name.removeprefix("@").replace("/", "-")

    def url(self, registry: str) -> str:
        """Where its archive is, on a registry that is laid out like npm's."""
        base = self.name.rsplit("/", 1)[-1]
        return f"{registry.rstrip('/')}/{self.name}/-/{base}-{self.version}.tgz"

    def is_in(self, into: Path) -> bool:
        """Whether `into` has this version, whole."""
        folder = into / self.folder
        try:
            stamped = (folder / _STAMP).read_text(encoding="ascii") == self.integrity
        except OSError:
            return False
        return stamped and all((folder / Path(name).name).is_file() for name in self.files)


def wanted(*, dev: bool = False) -> tuple[Library, ...]:
    """The libraries of the page, or, with `dev`, those of its tests."""
    lock = json.loads((HERE / "package-lock.json").read_text(encoding="utf-8"))
    return tuple(
        Library(name, found["version"], found["integrity"], files)
        for name, files in (_DEV_FILES if dev else _FILES).items()
        for found in (lock["packages"][f"node_modules/{name}"],)
    )


def missing(into: Path = LIBRARIES) -> tuple[str, ...]:
    """Names of the page's libraries that are not there."""
    return tuple(library.name for library in wanted() if not library.is_in(into))


def fetch(into: Path = LIBRARIES, *, dev: bool = False) -> tuple[str, ...]:
    """Bring what is missing from the registry; the names of what was fetched.

    The registry is npm's, or the one that npm's own variable `npm_config_registry` names.
    Raises `OSError` without a network or a writable folder, `WrongArchive` on another content.
    """
    lacking = [library for library in wanted(dev=dev) if not library.is_in(into)]
    if not lacking:
        return ()
    # npm reads it in any case of letters.
    environment = {name.lower(): value for name, value in os.environ.items()}
    registry = environment.get("npm_config_registry") or _REGISTRY
    into.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(len(lacking)) as pool:
        archives = list(pool.map(lambda library: _download(library, registry), lacking))
    for library, archive in zip(lacking, archives, strict=True):
        _unpack(library, archive, into)
    return tuple(library.name for library in lacking)


def _download(library: Library, registry: str) -> bytes:
    with urllib.request.urlopen(library.url(registry), timeout=_TIMEOUT_S) as response:
        content: bytes = response.read(_MAX_ARCHIVE_BYTES)
    kind, _, digest = library.integrity.partition("-")
    if kind != "sha512" or hashlib.sha512(content).digest() != base64.b64decode(digest):
        raise WrongArchive(
            f"{library.name} {library.version}: the registry's archive does not have the SHA-512 "
            "of package-lock.json"
        )
    return content


def _unpack(library: Library, archive: bytes, into: Path) -> None:
    """Write the wanted files beside each other. The stamp comes last: a part is no library."""
    folder = into / library.folder
    folder.mkdir(exist_ok=True)
    (folder / _STAMP).unlink(missing_ok=True)
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for name in library.files:
            # npm puts everything below one folder, most often "package".
            member = next(m for m in tar if m.isfile() and m.name.partition("/")[2] == name)
            content = tar.extractfile(member)
            assert content is not None  # It is a file.
            _write(folder / Path(name).name, content.read())
    _write(folder / _STAMP, library.integrity.encode("ascii"))


def _write(path: Path, content: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)


def main() -> int:
    """Fetch what is missing; 0 when all is there, 1 with a word on standard error when not."""
    parser = argparse.ArgumentParser(description="Fetch the web libraries of the agent's page.")
    parser.add_argument("--dev", action="store_true", help="those of the page's tests instead")
    parser.add_argument("--into", type=Path, default=LIBRARIES, metavar="FOLDER")
    parser.add_argument(
        "--optional", action="store_true", help="without a network: warn, and end with 0"
    )
    asked = parser.parse_args()
    try:
        fetched = fetch(asked.into, dev=asked.dev)
    except WrongArchive as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"warning: the page's web libraries could not be fetched: {error}\n")
        return 0 if asked.optional else 1
    if fetched:
        sys.stderr.write(f"fetched {', '.join(fetched)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
