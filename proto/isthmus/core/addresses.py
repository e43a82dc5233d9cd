"""Network addresses in settings: `host:port`, `[::1]:port` or `unix:/path`."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import AfterValidator

_HIGHEST_PORT = 65_535


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises `ValueError` when it is not of that form."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise ValueError("must be host:port, for example 127.0.0.1:50051")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`. A name other than localhost counts as open."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_local(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    return address.startswith("unix:") or is_loopback(split(address)[0])


def _of_a_host(address: str) -> str:
    split(address)
    return address


def _checked(address: str) -> str:
    return address if address.startswith("unix:") else _of_a_host(address)


def each(addresses: str) -> tuple[str, ...]:
    """The addresses of a list with commas between."""
    return tuple(one.strip() for one in addresses.split(","))


def _all_checked(addresses: str) -> str:
    return ",".join(map(_checked, each(addresses)))


HostPort = Annotated[str, AfterValidator(_of_a_host)]
"""A setting that is `host:port`."""
Address = Annotated[str, AfterValidator(_checked)]
"""A setting that is an address of any form."""
Addresses = Annotated[str, AfterValidator(_all_checked)]
"""A setting that is one address or several, with commas between."""
