"""Where upstreams are: the addresses of the configuration, or what DNS says of their names."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import quote, urlsplit

from isthmus.core.errors import ConfigError

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """One upstream's place."""

    scheme: str
    host: str
    """As it is configured: a name or an IP address."""
    port: int
    path: str
    """Where the API begins; ends with a slash."""
    ip: str = ""
    """The one of the name's IP addresses that is meant; empty: whichever."""

    @property
    def name(self) -> str:
        """`host:port`: the same for all the addresses of one name."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def key(self) -> str:
        """What tells it from all others, the same in every gateway."""
        return f"{self.scheme}://{self.name}{self.path} {self.ip}"


def configured(urls: Iterable[str]) -> tuple[Address, ...]:
    """The addresses as they are written, each once. Raises `ConfigError`."""
    found = tuple(dict.fromkeys(_parsed(written) for written in urls))
    if not found:
        raise _no_address()
    return found


async def resolved(addresses: Sequence[Address]) -> tuple[Address, ...]:
    """Every IP address (A and AAAA) of the names in `addresses`, sorted.

    A name that cannot be resolved has none: whoever asks keeps what it knew.
    """
    found = await asyncio.gather(*(_resolved(address) for address in addresses))
    return tuple(sorted({one for some in found for one in some}, key=lambda one: one.key))


async def _resolved(address: Address) -> list[Address]:
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [replace(address, ip=str(info[4][0])) for info in infos]


def _parsed(written: str) -> Address:
    try:
        url = urlsplit(written)
        host, port = url.hostname, url.port
        (host or "").encode("idna")  # as resolving it does
    except ValueError:
        raise _no_address() from None
    if url.scheme not in _PORTS or not host or url.query or url.fragment or url.username:
        raise _no_address()
    path = quote(url.path, safe="/%:@!$&'()*+,;=-._~")
    return Address(
        url.scheme, host, port or _PORTS[url.scheme], path if path.endswith("/") else f"{path}/"
    )


def _no_address() -> ConfigError:
    return ConfigError(
        "backend.url must be an http address such as http://127.0.0.1:8000/v1", field="backend.url"
    )
