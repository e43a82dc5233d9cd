"""Addresses in settings."""

from __future__ import annotations

import pytest

from isthmus.core.addresses import is_local, split


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
