"""Choosing a backend by name, and what a failed choice says."""

from __future__ import annotations

from pathlib import Path

import pytest

from isthmus.core.errors import ConfigError
from isthmus.kernels import BACKENDS, create, probe, registry
from isthmus.kernels.base import Backend
from isthmus.kernels.errors import BackendUnavailable


def broken(
    *, variant: str | None, threads: int | None, cache: Path | None, tuned: Path | None
) -> Backend:
    raise OSError("libmissing.so: cannot open")


def test_the_automatic_choice_is_the_first_that_works_and_says_what_it_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert create().name == BACKENDS[0] == "native"
    assert not caplog.records
    monkeypatch.setitem(registry._FACTORIES, "native", broken)
    monkeypatch.setitem(registry._FACTORIES, "opencl", broken)
    assert create().name == "numpy"
    assert "native does not work here: libmissing.so" in caplog.text


def test_a_backend_asked_for_by_name_works_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._FACTORIES, "native", broken)
    with pytest.raises(BackendUnavailable, match="libmissing") as caught:
        create("native")
    assert set(caught.value.reasons) == {"native"}


def test_a_misspelt_name_gets_the_nearest_one_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean 'native'"):
        create("natve")


def test_when_nothing_works_every_candidate_tells_its_own_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in BACKENDS:
        monkeypatch.setitem(registry._FACTORIES, name, broken)
    with pytest.raises(BackendUnavailable) as caught:
        create()
    assert set(caught.value.reasons) == set(BACKENDS)
    assert all("libmissing" in reason for reason in caught.value.reasons.values())


def test_probing_lists_every_backend_with_its_device_or_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(registry._FACTORIES, "numpy", broken)
    native, _opencl, numpy = probe()
    assert native.reason is None
    assert native.device is not None
    assert "threads" in native.device
    assert numpy.device is None
    assert numpy.reason is not None
    assert "libmissing" in numpy.reason
