from __future__ import annotations

import pytest
import yaml

from deploy_manifests import HELM, VALUES, render, values_of


@pytest.fixture(scope="session")
def helm():
    if not HELM.exists():
        pytest.skip("needs Helm: make check-deploy")


@pytest.fixture(scope="session", params=VALUES, ids=lambda path: path.stem)
def manifests(request, helm):
    """The manifests of one values file."""
    return list(yaml.safe_load_all(render(values_of(request.param))))


@pytest.fixture(scope="session", params=VALUES, ids=lambda path: path.stem)
def values(request):
    return values_of(request.param)
