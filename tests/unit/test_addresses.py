"""Addresses in settings."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from isthmus.core.addresses import is_local, split, why_taken


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("[::1]:1", True),
        ("LocalHost:1", True),
        ("unix:/run/x", True),
        ("10.0.0.1:1", False),
        ("example.com:443", False),
        ("localhost.example.com:1", False),
    ],
)
def test_an_address_of_this_machine_is_told_from_the_rest(address: str, local: bool) -> None:
    assert is_local(address) is local


def test_host_and_port_are_split() -> None:
    assert split("127.0.0.1:80") == ("127.0.0.1", 80)
    assert split("[::1]:80") == ("::1", 80)


@pytest.mark.parametrize("address", ["8080", ":80", "host:", "host:99999", "host:-1", "host:٣"])
def test_what_is_no_address_says_how_one_looks(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_an_address_that_somebody_listens_on_is_taken_until_he_stops(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"{host}:{other.getsockname()[1]}"
        assert why_taken(address) == "Address already in use"
    assert why_taken(address) is None


def test_a_socket_needs_a_folder(tmp_path: Path) -> None:
    assert why_taken(f"unix:{tmp_path}/x") is None
    assert f"{tmp_path}/no" in (why_taken(f"unix:{tmp_path}/no/x") or "")
