"""Network addresses in settings: `host:port`, `[::1]:port` or `unix:/path`."""

from __future__ import annotations

import ipaddress
import os
import socket
from pathlib import Path
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


def why_taken(address: str) -> str | None:
    """Why nothing can listen at `address` now; None: something can.

    Only a look: whoever listens afterwards may still fail, where somebody else was quicker.
    """
    try:
        if address.startswith("unix:"):
            folder = Path(address.removeprefix("unix:")).absolute().parent
            if not os.access(folder, os.W_OK | os.X_OK):
                return f"{folder} is not there or not writable"
            return None
        host, port = split(address)
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        return error.strerror
    reasons = [_unbound(family, where) for family, _, _, _, where in found]
    return None if None in reasons else reasons[0]


def _unbound(family: socket.AddressFamily, where: tuple[str | int | bytes, ...]) -> str | None:
    """Why `where` cannot be bound."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: what a process that has ended left behind does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            return error.strerror
    return None


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
