"""The two consents: each given and revoked by itself, and neither by a damaged file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from isthmus.edge.consent import Consent, consent_path, keep_consent


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISTHMUS_HOME", str(tmp_path / "home"))


def test_sharing_is_off_unless_given_and_ends_with_the_consent_to_the_cloud() -> None:
    keep_consent(True)
    consent = Consent()
    assert (consent.granted, consent.shares) == (True, False)
    keep_consent(share=True)
    assert (Consent().granted, Consent().shares) == (True, True)
    keep_consent(False)
    assert (Consent().granted, Consent().shares) == (False, False)
    keep_consent(True)
    assert Consent().shares, "it was not revoked itself"


def test_sharing_alone_gives_no_consent_to_the_cloud() -> None:
    keep_consent(share=True)
    assert (Consent().granted, Consent().shares) == (False, False)
    assert Consent(True).shares


@pytest.mark.parametrize(("share", "expected"), [(None, False), (True, True), (False, False)])
def test_the_settings_may_give_it_too(share: bool | None, expected: bool) -> None:
    assert Consent(True, share=share).shares is expected


def test_the_settings_may_forbid_it_and_a_revocation_stands_over_them() -> None:
    keep_consent(True, share=True)
    assert not Consent(True, share=False).shares
    keep_consent(share=False)
    assert not Consent(True, share=True).shares


def test_a_gateway_of_ones_own_is_told_everything() -> None:
    assert Consent(own_gateway=True).shares
    assert not Consent(own_gateway=True, share=False).shares


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"yes"', '{"cloud": 1, "share": 1}'])
def test_a_damaged_file_says_no(text: str) -> None:
    path = consent_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    assert (Consent(True).granted, Consent(True, share=True).shares) == (False, False)


def test_the_file_says_what_was_said(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    keep_consent(True, path)
    assert json.loads(path.read_text())["cloud"] is True
    assert "share" not in json.loads(path.read_text())


def test_two_programs_that_keep_it_at_once_do_not_mix_what_they_write(tmp_path: Path) -> None:
    path = tmp_path / "consent.json"
    with path.with_suffix(".new").open("w") as other:
        other.write('{"cloud": ')
        other.flush()
        keep_consent(True, path)
        other.write("half")
    assert Consent(path=path).granted
