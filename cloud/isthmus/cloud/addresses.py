"""Addresses to listen on: `host:port`, `[::1]:port` or `unix:/path`."""

from __future__ import annotations

import ipaddress

_HIGHEST_PORT = 65_535


def split(address: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises `ValueError` when it is not of that form."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > _HIGHEST_PORT:
        raise ValueError("must be host:port, for example 127.0.0.1:50051")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach it. A name other than localhost counts as open."""
    if address.startswith("unix:"):
        return True
    host, _ = split(address)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
