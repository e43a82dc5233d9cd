"""Images hold what they need, and nothing that is not known."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from deploy_manifests import (
    DEPLOY,
    ROOT,
    dockerfiles,
)


@pytest.mark.parametrize("name", list(dockerfiles()))
def test_an_image_is_built_on_a_base_with_a_digest_and_runs_as_nobody(name):
    instructions = dockerfiles()[name]
    bases = [value.split()[0] for key, value in instructions if key == "FROM"]
    assert set(bases) == {"${PYTHON_IMAGE}@${PYTHON_DIGEST}"}
    # Without a default nothing can be built on a base that nobody looked up.
    assert ("ARG", "PYTHON_DIGEST") in instructions
    assert dict(instructions)["USER"] == "65532:65532"
    installs = [value for key, value in instructions if key == "RUN" and "pip" in value]
    assert all("--require-hashes" in value or "--no-deps" in value for value in installs)


def locked(name: str) -> dict[str, str]:
    text = (DEPLOY / "docker" / f"{name}.txt").read_text(encoding="utf-8")
    packages = re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.M)
    assert text.count("--hash=sha256:") >= len(packages) > 3
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in packages}


@pytest.mark.parametrize("name", ["gateway", "edge"])
def test_an_image_has_the_versions_that_the_tests_run_with(name):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    tested = {re.sub(r"[-_.]+", "-", key).lower(): value for key, value in tested.items()}
    told = locked(name)
    # The others are for systems that are none of ours, or came with a newer version.
    assert len(set(told) & set(tested)) > 0.9 * len(told)
    assert {key: told[key] for key in told if key in tested} == {
        key: tested[key] for key in told if key in tested
    }


def test_the_agents_image_has_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    # Its agent, and a gateway that embeds a model, trace as the gateway's own image does.
    asked = [*project["dependencies"], *project["optional-dependencies"]["otel"]]
    wanted = {re.split(r"[>=\[]", one)[0].replace("_", "-").lower() for one in asked}
    assert wanted <= set(locked("edge"))


IMPORTS = """
import re, sys
from importlib.abc import MetaPathFinder
from importlib.metadata import packages_distributions

class OnlyThese(MetaPathFinder):
    there = {*sys.argv[1:], "isthmus"}
    owners = packages_distributions()

    def find_spec(self, name, path, target=None):
        owners = {re.sub(r"[-_.]+", "-", one).lower() for one in self.owners.get(name, ())}
        if owners and not owners & self.there:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, OnlyThese())
import isthmus.cli.cloud, isthmus.cli.main, isthmus.cloud.server
import isthmus.cloud.backends.openai, isthmus.cloud.ledger, isthmus.cloud.identity.door
import alembic, psycopg
"""


def imports(packages: list[str]) -> str:
    """What is missing when the gateway is imported with these packages alone."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORTS, *packages],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return "".join(done.stderr.splitlines()[-1:])


def test_the_gateways_image_has_what_the_gateway_imports():
    packages = list(locked("gateway"))
    assert "numpy" not in packages
    assert imports(packages) == ""
    assert "grpc is not in the image" in imports([one for one in packages if "grpc" not in one])
