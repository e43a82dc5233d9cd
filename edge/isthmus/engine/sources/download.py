"""Fetch one file over HTTP, going on where an earlier attempt stopped."""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

_ATTEMPTS = 5
_PAUSE_S = 0.5
_CA_VARIABLES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a download is. `total_bytes` is None while it is not known."""

    source: str
    done_bytes: int
    total_bytes: int | None


Report = Callable[[Progress], None]


class DownloadFailed(Exception):
    """A source did not give the file; the message says why, without credentials."""


class WrongFile(DownloadFailed):
    """A source gave a file that is damaged, or not the one that the catalogue means."""


def client() -> httpx.Client:
    """A client that honours the proxy and certificate variables that pip and curl honour.

    Without them it trusts the machine's own certificates besides Mozilla's, as pip does: a
    company's proxy shows one of its own.
    """
    bundle = next((path for name in _CA_VARIABLES if (path := os.environ.get(name))), None)
    if bundle:
        verify = ssl.create_default_context(cafile=bundle)
    else:
        verify = httpx.create_ssl_context()
        verify.load_default_certs()
    timeout = httpx.Timeout(30.0, connect=10.0)
    return httpx.Client(verify=verify, timeout=timeout, follow_redirects=True)


def reason(error: httpx.HTTPError | httpx.InvalidURL) -> str:
    """What went wrong, in words for a user; URLs and their credentials are left out."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, httpx.TimeoutException):
        return "the server did not answer in time"
    if isinstance(error, httpx.ConnectError):
        return f"no connection ({error})"
    return str(error) or type(error).__name__


def shown(text: str) -> str:
    """An address, or a text with addresses in it, without their credentials."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def fetch(
    http: httpx.Client,
    url: httpx.URL,
    to: Path,
    *,
    source: str,
    report: Report,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Bring `to` to its whole length, appending to what is there.

    A connection that breaks is taken up again, with growing pauses, until five attempts in a row
    bring nothing. Raises `DownloadFailed`; `to` then keeps what has arrived.
    """
    failures = 0
    while True:
        before = _size(to)
        try:
            if _attempt(http, url, to, source, report, headers or {}):
                return
            failure = "the connection closed too early"
        except httpx.HTTPStatusError as error:
            if error.response.status_code < 500 and error.response.status_code != 429:
                raise DownloadFailed(reason(error)) from error
            failure = reason(error)
        except httpx.TransportError as error:
            failure = reason(error)
        except httpx.HTTPError as error:
            raise DownloadFailed(reason(error)) from error
        except OSError as error:
            raise DownloadFailed(f"cannot write {to}: {error.strerror}") from error
        failures = 1 if _size(to) > before else failures + 1
        if failures >= _ATTEMPTS:
            raise DownloadFailed(failure)
        time.sleep(_PAUSE_S * 2 ** (failures - 1))


def _attempt(
    http: httpx.Client,
    url: httpx.URL,
    to: Path,
    source: str,
    report: Report,
    headers: Mapping[str, str],
) -> bool:
    """One request; whether the file is whole after it."""
    start = _size(to)
    # A compressed body would have no offsets to go on from.
    asked = {**headers, "Accept-Encoding": "identity"}
    if start:
        asked["Range"] = f"bytes={start}-"
    with http.stream("GET", url, headers=asked) as response:
        if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            if response.headers.get("content-range") == f"bytes */{start}":
                return True
            to.unlink()
            return False
        response.raise_for_status()
        resumed = response.status_code == httpx.codes.PARTIAL_CONTENT
        if resumed and not response.headers.get("content-range", "").startswith(f"bytes {start}-"):
            to.unlink()
            return False
        length = response.headers.get("content-length")
        done = start if resumed else 0
        total = done + int(length) if length and length.isdigit() else None
        with to.open("ab" if resumed else "wb") as file:
            report(Progress(source, done, total))
            for chunk in response.iter_raw():
                file.write(chunk)
                done += len(chunk)
                report(Progress(source, done, total))
            file.flush()
            os.fsync(file.fileno())
    return total is None or done == total


def _size(path: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return path.stat().st_size
    return 0
