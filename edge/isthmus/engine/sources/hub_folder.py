"""A model folder out of a Hugging Face repository: what the engine reads of it, and no more.

Every file is checked against the hub's own digest, the sha256 of a large file and git's of a small
one. All are of one commit. What has arrived stays until the next attempt goes on from it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import httpx
import huggingface_hub

from isthmus.engine.errors import ModelDamaged
from isthmus.engine.formats import safetensors
from isthmus.engine.formats.huggingface import check_documents
from isthmus.engine.sources import hub
from isthmus.engine.sources.catalogue import HubSource
from isthmus.engine.sources.checksums import sha256_of, write_checksums
from isthmus.engine.sources.download import DownloadFailed, Progress, Report, client, fetch

_NEEDED = ("config.json", "tokenizer.json")
_USEFUL = ("generation_config.json", "tokenizer_config.json", "chat_template.jinja")
_SHA256, _GIT = 64, 40
"""Hexadecimal digits of the digests."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    url: httpx.URL
    size_bytes: int
    digest: str

    def is_at(self, path: Path) -> bool:
        """Whether `path` is this file, whole and unspoiled."""
        if not path.is_file() or path.stat().st_size != self.size_bytes:
            return False
        if len(self.digest) == _SHA256:
            return sha256_of(path) == self.digest
        blob = b"blob %d\0" % self.size_bytes + path.read_bytes()
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == self.digest


def folder_from_hub(source: HubSource, scratch: Path, report: Report) -> Path:
    """Bring the model folder into `scratch`, going on with what an earlier attempt left there.

    Raises `DownloadFailed`, and `ModelNotSupported` or `ModelDamaged` before the weights are
    fetched of a model that could not be read.
    """
    if hub.is_offline():
        raise DownloadFailed(
            "HF_HUB_OFFLINE is set; a folder that is in the hub's cache can be named by its path"
        )
    source, listed = _listed(source)
    to = scratch / "folder"
    to.mkdir(exist_ok=True)
    names = [name for name in (*_NEEDED, *_USEFUL, safetensors.INDEX) if name in listed]
    with client() as http:
        bring = partial(_bring, http, to, str(source))
        documents = [_file(source, name) for name in names]
        for file in documents:
            bring(file, _silent)
        # Before gigabytes arrive in vain.
        check_documents(to)
        weights = [_file(source, name) for name in _weights(to, listed)]
        total = sum(file.size_bytes for file in (*documents, *weights))
        done = sum(file.size_bytes for file in documents)
        for file in weights:
            bring(file, partial(_add_up, report, done, total))
            done += file.size_bytes
    kept = {file.name for file in (*documents, *weights)}
    for path in to.iterdir():
        if path.name not in kept:
            path.unlink()  # of another commit
    write_checksums(to)
    return to


def _listed(source: HubSource) -> tuple[HubSource, set[str]]:
    """The source at the commit that its revision is now, and the names of the files there."""
    api = huggingface_hub.HfApi(endpoint=hub.endpoint())
    ask = partial(api.model_info, source.repo, revision=source.revision, timeout=hub.TIMEOUT_S)
    info = hub.asked(source, ask)
    names = {sibling.rfilename for sibling in info.siblings or ()}
    missing = [name for name in _NEEDED if name not in names]
    if not names & {safetensors.INDEX, safetensors.WEIGHTS}:
        missing.append(safetensors.WEIGHTS)
    if missing:
        own = sorted(name for name in names if name.endswith(".gguf"))
        hint = f"; it has {', '.join(own)}, which models.toml can name" if own else ""
        raise DownloadFailed(f"the repository has no {', '.join(missing)}{hint}")
    return replace(source, revision=info.sha or source.revision), names


def _weights(folder: Path, listed: set[str]) -> list[str]:
    """The names of the weight files. An index of another commit may lie there."""
    if safetensors.INDEX not in listed:
        return [safetensors.WEIGHTS]
    try:
        names = safetensors.files_of(folder)
    except ModelDamaged as error:
        raise DownloadFailed(error.message) from error
    missing = [name for name in names if name not in listed]
    if missing:
        raise DownloadFailed(f"the repository has no {missing[0]}, which its index names")
    return names


def _file(source: HubSource, name: str) -> _File:
    url, told = hub.metadata(replace(source, file=name), name)
    digest = told.etag or ""
    if told.size is None or not re.fullmatch(f"[0-9a-f]{{{_SHA256}}}|[0-9a-f]{{{_GIT}}}", digest):
        raise DownloadFailed(f"the hub gives no size or checksum for {name}")
    return _File(name, url, told.size, digest)


def _bring(http: httpx.Client, to: Path, source: str, file: _File, report: Report) -> None:
    path = to / file.name
    went_on = path.exists()
    if file.is_at(path):
        return
    fetch(http, file.url, path, source=source, report=report, headers=hub.headers())
    if file.is_at(path):
        return
    path.unlink()
    if not went_on:
        raise DownloadFailed(f"{file.name} is not the file whose size and checksum the hub tells")
    _bring(http, to, source, file, report)  # what an earlier attempt left was spoiled


def _add_up(report: Report, before: int, total: int, step: Progress) -> None:
    report(Progress(step.source, before + step.done_bytes, total))


def _silent(step: Progress) -> None:
    """Report to nobody."""
