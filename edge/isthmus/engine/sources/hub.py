"""One file out of a Hugging Face repository.

huggingface_hub knows the mirrors, the tokens, the cache and the offline mode; the bytes come by
our own `fetch`, because the library starts again from nothing after a process was killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx
import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.utils import build_hf_headers

from isthmus.engine.sources.catalogue import HubSource
from isthmus.engine.sources.download import DownloadFailed, Report, client, fetch, shown

TIMEOUT_S = 10.0
_Answer = TypeVar("_Answer")


def from_hub(source: HubSource, scratch: Path, report: Report) -> Path:
    """Download the file into `scratch`, going on with an earlier part, or find it in the hub cache.

    HF_ENDPOINT and HF_HUB_OFFLINE are read at the time of the call. Raises `DownloadFailed`.
    """
    assert source.file is not None  # `isthmus.engine.sources.hub_folder` brings what has none
    cached = huggingface_hub.try_to_load_from_cache(
        source.repo, source.file, revision=source.revision
    )
    if isinstance(cached, str):
        return Path(cached)
    if is_offline():
        raise DownloadFailed("HF_HUB_OFFLINE is set, and the file is not in the hub's cache")
    url, _ = metadata(source, source.file)
    part = scratch / "hub.part"
    with client() as http:
        fetch(http, url, part, source=str(source), report=report, headers=headers())
    return part


def is_offline() -> bool:
    """Whether nothing may be asked of the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def endpoint() -> str | None:
    """The mirror that is set; None: the hub itself."""
    return os.environ.get("HF_ENDPOINT") or None


def headers() -> dict[str, str]:
    """What a download says of itself, the user's token included."""
    return dict(build_hf_headers(library_name="isthmus"))


def metadata(source: HubSource, file: str) -> tuple[httpx.URL, huggingface_hub.HfFileMetadata]:
    """Where a file of the source's repository is, and what the hub knows of it."""

    def ask() -> tuple[httpx.URL, huggingface_hub.HfFileMetadata]:
        host = endpoint()
        url = huggingface_hub.hf_hub_url(source.repo, file, revision=source.revision, endpoint=host)
        told = huggingface_hub.get_hf_file_metadata(url, timeout=TIMEOUT_S, endpoint=host)
        return httpx.URL(url), told

    return asked(source, ask)


def asked(source: HubSource, ask: Callable[[], _Answer]) -> _Answer:
    """What `ask` gets from the hub. Raises `DownloadFailed` with what a refusal means."""
    try:
        return ask()
    except Exception as error:  # its HTTP client, and so the errors, change between versions
        raise DownloadFailed(shown(_meaning(source, error))) from None


def _meaning(source: HubSource, error: Exception) -> str:
    host = endpoint() or "https://huggingface.co"
    match error:
        case errors.GatedRepoError():
            return (
                f"the repository is gated: accept its licence at {host}/{source.repo}, and set "
                "HF_TOKEN to a token of yours"
            )
        case errors.RepositoryNotFoundError():
            return f"{host} has no such repository; for a private one set HF_TOKEN"
        case errors.RevisionNotFoundError():
            return f"the repository has no revision {source.revision}"
        case errors.EntryNotFoundError():
            return f"the repository has no file {source.file}"
    told = str(error).strip().splitlines() or [type(error).__name__]
    return f"{host}: {told[0]}"
