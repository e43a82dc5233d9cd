"""Who may talk to the agent."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from isthmus.core.errors import ConfigError
from isthmus.edge.config import EdgeConfig
from isthmus.edge.http import Refused
from isthmus.edge.security import Guard


async def nothing(scope: object, receive: object, send: object) -> None:
    """An application that is never reached here."""


def refusal(config: EdgeConfig, path: str = "/v1/models", **headers: str) -> int | None:
    """The status that a request is refused with, or None."""
    guard = Guard(nothing, config=config)
    given = {"host": "127.0.0.1:8080", **headers}
    try:
        guard.check(Headers(given), path)
    except Refused as refused:
        return refused.response.status
    return None


LOOPBACK = EdgeConfig()
OPEN = EdgeConfig(host="0.0.0.0", token="sesame-open")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080"])
def test_names_of_loopback_pass(host: str) -> None:
    assert refusal(LOOPBACK, host=host) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "", "10.0.0.1"],
)
def test_a_name_that_was_bound_to_loopback_from_outside_is_refused(host: str) -> None:
    assert refusal(LOOPBACK, host=host) == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000"])
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    assert refusal(LOOPBACK, origin=origin) == 403


def test_the_agents_own_page_passes() -> None:
    assert refusal(LOOPBACK, origin="http://127.0.0.1:8080") is None


def test_configured_names_and_origins_pass() -> None:
    config = EdgeConfig(allowed_hosts=("car.local",), allowed_origins=("https://app.example",))
    assert refusal(config, host="car.local:8080", origin="https://app.example") is None


def test_beyond_loopback_only_the_token_opens() -> None:
    assert refusal(OPEN, host="192.168.1.7:8080") == 401
    assert refusal(OPEN, host="192.168.1.7", authorization="Bearer wrong") == 401
    assert refusal(OPEN, host="192.168.1.7", authorization="Basic sesame-open") == 401
    assert refusal(OPEN, host="192.168.1.7", authorization="Bearer sesame-open") is None


def test_health_needs_no_token() -> None:
    assert refusal(OPEN, path="/healthz") is None


def test_a_token_counts_on_loopback_too_when_one_is_set() -> None:
    config = EdgeConfig(token="sesame-open")
    assert refusal(config) == 401
    assert refusal(config, authorization="Bearer sesame-open") is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "device.example"])
def test_listening_wider_without_a_token_is_refused(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        EdgeConfig(host=host)
    assert caught.value.field == "token"


def test_a_refusal_never_shows_the_token() -> None:
    guard = Guard(nothing, config=OPEN)
    with pytest.raises(Refused) as caught:
        guard.check(Headers({"authorization": "Bearer guess-9"}), "/metrics")
    assert "sesame" not in str(caught.value.response)
    assert "guess-9" not in str(caught.value.response)
