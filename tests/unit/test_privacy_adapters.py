"""Presidio and argus-redact as detectors of ours, where they are installed."""

from __future__ import annotations

import pytest

from isthmus.core.errors import ConfigError
from isthmus.privacy import adapters
from isthmus.privacy.adapters import adapter
from isthmus.privacy.scanner import Scanner

TEXT = "My SSN is 219-09-9999, card 4111111111111111, write to ann@example.org"


@pytest.mark.parametrize("name", ["argus", "presidio"])
def test_an_adapter_finds_values_under_our_labels(name: str) -> None:
    found = {(TEXT[s.start : s.end], s.label) for s in Scanner((adapter(name),)).scan(TEXT)}
    assert {("ann@example.org", "EMAIL"), ("4111111111111111", "BANK_CARD")} <= found


def test_an_adapter_that_is_not_installed_is_refused_with_its_cure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=r"pip install 'isthmus\[presidio\]'"):
        adapter("presidio")


def test_an_adapter_that_nobody_knows_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="argus, presidio"):
        adapter("nobody")
