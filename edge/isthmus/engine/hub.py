"""One file out of a Hugging Face repository.

huggingface_hub knows the mirrors, the tokens, the cache and the offline mode; the bytes come by
our own `fetch`, because the library starts again from nothing after a process was killed.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import huggingface_hub
from huggingface_hub.utils import build_hf_headers

from isthmus.engine.catalogue import HubSource
from isthmus.engine.download import DownloadFailed, Report, client, fetch, shown

_TIMEOUT_S = 10.0


def from_hub(source: HubSource, scratch: Path, report: Report) -> Path:
    """Download the file into `scratch`, going on with an earlier part, or find it in the hub cache.

    HF_ENDPOINT and HF_HUB_OFFLINE are read at the time of the call. Raises `DownloadFailed`.
    """
    cached = huggingface_hub.try_to_load_from_cache(
        source.repo, source.file, revision=source.revision
    )
    if isinstance(cached, str):
        return Path(cached)
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        raise DownloadFailed("HF_HUB_OFFLINE is set, and the file is not in the hub's cache")
    endpoint = os.environ.get("HF_ENDPOINT") or None
    try:
        url = huggingface_hub.hf_hub_url(
            source.repo, source.file, revision=source.revision, endpoint=endpoint
        )
        # The library's errors say what a refusal means: no such repository, a licence to accept.
        huggingface_hub.get_hf_file_metadata(url, timeout=_TIMEOUT_S, endpoint=endpoint)
        headers = build_hf_headers(library_name="isthmus")
    except Exception as error:  # its HTTP client, and so the errors, change between versions
        told = str(error).strip().splitlines() or [type(error).__name__]
        host = endpoint or "https://huggingface.co"
        raise DownloadFailed(shown(f"{host}: {told[0]}")) from None
    part = scratch / "hub.part"
    with client() as http:
        fetch(http, httpx.URL(url), part, source=str(source), report=report, headers=headers)
    return part
