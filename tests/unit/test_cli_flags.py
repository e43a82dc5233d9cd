"""What commands say of the agent's address."""

from __future__ import annotations

from isthmus.cli.flags import page_of
from isthmus.edge.config import EdgeConfig


def test_the_address_of_the_page_tells_of_a_token_and_never_the_token() -> None:
    url = "http://127.0.0.1:8080"
    assert page_of(url, EdgeConfig()) == f"{url}/"
    guarded = page_of(url, EdgeConfig(token="sesame-open"))
    assert guarded.startswith(f"{url}/ ")
    assert "token" in guarded
    assert "sesame" not in guarded
