"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

# Before numpy is imported: its threads wait by spinning, which on a busy machine takes minutes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # scikit-learn's too
# A gateway that a test starts as a program leaves nothing in the home of whoever runs the tests.
os.environ.setdefault("ISTHMUS_CLOUD_LEDGER__KIND", "off")

import pytest
from hypothesis import HealthCheck, settings

from isthmus.engine.gguf import read_gguf
from isthmus.engine.model import ModelFile
from isthmus.engine.pull import pull

# How long an example takes is no finding: the machine may be busy.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def model_path() -> Path:
    """The small model's file, downloaded into the user's ISTHMUS_HOME when it is not there yet."""
    return pull("smollm2-135m")


@pytest.fixture(scope="session")
def model_file(model_path: Path) -> ModelFile:
    """The small model, opened once."""
    return read_gguf(model_path)
