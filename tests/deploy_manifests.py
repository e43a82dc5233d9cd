"""What the files under deploy/ say: the programs that they start, with flags and environment."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
VALUES = sorted((DEPLOY / "helm").glob("values-*.yaml"))
HELM = ROOT / ".venv-deploy" / "bin" / "python"
"""The interpreter that has Helm inside, where `make check-deploy` made it."""


@dataclass(frozen=True)
class Start:
    """One start of our program."""

    where: str
    words: list[str]
    """What comes after `isthmus`."""
    env: dict[str, str] = field(default_factory=dict)
    """Variables; those that come from a secret have an empty value."""
    ours: bool = True


def render(values: dict[str, Any]) -> str:
    """The chart's manifests. Raises `ValueError` with what the chart says when it refuses."""
    done = subprocess.run(
        [HELM, ROOT / "scripts" / "render_chart.py", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")},
    )
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def operators_say(manifests: str, file: Path) -> list[str]:
    """What the schemas of prometheus-operator and KEDA find wrong with a YAML text."""
    file.write_text(manifests, encoding="utf-8")
    done = subprocess.run(
        [HELM, ROOT / "scripts" / "check_operators.py", file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [line.removeprefix(f"{file}: ") for line in done.stderr.splitlines()]


def values_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def dockerfiles() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each Dockerfile, continued lines joined."""
    found = {}
    for path in sorted((DEPLOY / "docker").glob("*.Dockerfile")):
        text = re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.M)
        lines = text.replace("\\\n", " ").splitlines()
        found[path.name] = [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]
    return found


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))


def units() -> dict[str, list[tuple[str, str]]]:
    """The settings of each systemd unit; a key may come several times."""
    found = {}
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        lines = path.read_text(encoding="utf-8").splitlines()
        found[path.name] = [tuple(line.split("=", 1)) for line in lines if re.match(r"\w+=", line)]
    return found


def starts() -> Iterator[Start]:
    """Those of Dockerfiles, compose and units. The chart's are in `of_pods`."""
    for name, instructions in dockerfiles().items():
        last = dict(instructions)
        env = dict(re.findall(r"(\w+)=(\S+)", " ".join(v for k, v in instructions if k == "ENV")))
        entry, command = json.loads(last["ENTRYPOINT"]), json.loads(last["CMD"])
        assert entry == ["isthmus"]
        yield Start(name, command, env)
    for name, service in compose()["services"].items():
        ours = service["image"].startswith("isthmus-")
        yield Start(
            f"compose {name}", service.get("command", []), service.get("environment", {}), ours
        )
    for name, settings in units().items():
        program, *words = shlex.split(dict(settings)["ExecStart"])
        assert program.endswith("/bin/isthmus")
        env = dict(value.split("=", 1) for key, value in settings if key == "Environment")
        yield Start(name, words, env)


def pods(manifests: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of manifests: their workload's name and their spec."""
    for manifest in manifests:
        if manifest["kind"] in {"Deployment", "StatefulSet"}:
            yield manifest["metadata"]["name"], manifest["spec"]["template"]["spec"]


def of_pods(manifests: list[dict[str, Any]]) -> Iterator[Start]:
    for name, pod in pods(manifests):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            env = {one["name"]: one.get("value", "") for one in container.get("env", [])}
            yield Start(name, container["args"], env, container["image"].startswith("isthmus-"))
