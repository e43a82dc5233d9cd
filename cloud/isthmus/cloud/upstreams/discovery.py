"""Where upstreams are: the addresses of the configuration, or what DNS says of their names."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from isthmus.core.errors import ConfigError

_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """One upstream's place."""

    url: str
    """Its base address, ending with a slash; of a resolved name with the IP address in it."""
    name: str
    """`host:port` as it is configured: the same for all the addresses of one name."""
    host: str = ""
    """The `Host` that it is to be asked with, where `url` has an IP address for it."""


def configured(urls: Iterable[str]) -> tuple[Address, ...]:
    """The addresses as they are written. Raises `ConfigError`."""
    found: dict[str, Address] = {}
    for written in urls:
        url = _parsed(written)
        base = str(url) if written.endswith("/") else f"{url}/"
        found[base] = Address(base, f"{url.host}:{_port(url)}")
    if not found:
        raise ConfigError(
            "backend.url must be an http address such as http://127.0.0.1:8000/v1",
            field="backend.url",
        )
    return tuple(found.values())


async def resolved(addresses: Sequence[Address]) -> tuple[Address, ...]:
    """Every IP address (A and AAAA) of the names in `addresses`, sorted.

    A name that cannot be resolved has none: whoever asks keeps what it knew.
    """
    found = await asyncio.gather(*(_resolved(address) for address in addresses))
    return tuple(sorted({one for some in found for one in some}, key=lambda one: one.url))


async def _resolved(address: Address) -> list[Address]:
    url = httpx.URL(address.url)
    loop = asyncio.get_running_loop()
    try:
        infos = await loop.getaddrinfo(url.host, _port(url), type=socket.SOCK_STREAM)
    except OSError:
        return []
    ips = {str(info[4][0]) for info in infos}
    host = url.netloc.decode()
    return [Address(str(url.copy_with(host=_literal(ip))), address.name, host) for ip in ips]


def _literal(ip: str) -> str:
    # A link-local address has a zone behind it, which a URL cannot hold.
    ip = ip.partition("%")[0]
    return f"[{ip}]" if ipaddress.ip_address(ip).version == 6 else ip


def _parsed(written: str) -> httpx.URL:
    try:
        url = httpx.URL(written)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in _PORTS or not url.host:
        raise ConfigError(
            "backend.url must be an http address such as http://127.0.0.1:8000/v1",
            field="backend.url",
        )
    return url


def _port(url: httpx.URL) -> int:
    return url.port or _PORTS[url.scheme]
