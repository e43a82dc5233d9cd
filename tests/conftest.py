"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

# Before numpy is imported: its threads wait by spinning, which on a busy machine takes minutes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # scikit-learn's too
# A gateway that a test starts as a program leaves nothing in the home of whoever runs the tests.
os.environ.setdefault("ISTHMUS_CLOUD_LEDGER__KIND", "off")

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

from cloud_ledgers import postgres_database
from isthmus.cloud.ledger.database import sqlite_url
from isthmus.core.paths import cache_dir, models_dir
from isthmus.engine.formats.gguf import read_gguf
from isthmus.engine.model import ModelFile
from isthmus.engine.sources.pull import pull

# How long an example takes is no finding: the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def isthmus_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An ISTHMUS_HOME for all that has none of its own: with the models and caches of whoever runs
    the tests, that nothing be downloaded twice, and without their ledger, keys and settings.
    """
    folder = tmp_path_factory.mktemp("home")
    for shared in (models_dir(), cache_dir()):
        shared.mkdir(parents=True, exist_ok=True)
        (folder / shared.name).symlink_to(shared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISTHMUS_HOME", str(folder))
        yield


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The small model's file, downloaded when whoever runs the tests does not have it yet."""
    return pull("smollm2-135m")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.URL]:
    """An empty database for a ledger, of each kind that it may be kept in."""
    if request.param == "sqlite":
        yield sqlite_url(tmp_path / "ledger.db")
        return
    with postgres_database() as url:
        yield url


@pytest.fixture(scope="session")
def model_file(model_path: Path) -> ModelFile:
    """The small model, opened once."""
    return read_gguf(model_path)
