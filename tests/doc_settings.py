"""The settings and data that a block of the documentation shows, read by who will read them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import jsonschema
import yaml
from promql_parser import parse

from doc_blocks import ROOT, Block

_CHART = ROOT / "deploy" / "helm" / "isthmus" / "values.schema.json"


def check_data(block: Block, path: Path) -> None:
    """Read a block by the program's own reader, from the file `path`. Raises what that raises."""
    path.write_text(block.text, encoding="utf-8")
    if block.language == "json":
        for line in block.text.splitlines() if path.suffix == ".jsonl" else [block.text]:
            json.loads(line)
    elif block.language == "yaml":
        documents = list(yaml.safe_load_all(block.text))
        assert documents
        if path.name == "values.yaml":
            jsonschema.validate(documents[0], json.loads(_CHART.read_text(encoding="utf-8")))
    elif block.language == "promql":
        parse(block.text)
    else:
        assert tomllib.loads(block.text)
        _TOML[Path(block.file or "").name](path)


def _edge(path: Path) -> None:
    from isthmus.edge.config import EdgeConfig

    EdgeConfig.load(path)


def _gateway(path: Path) -> None:
    from isthmus.cloud.config import CloudConfig

    CloudConfig.load(path)


def _policy(path: Path) -> None:
    from isthmus.edge.fleet.policy import tuned
    from isthmus.router.config import RouterConfig

    tuned(RouterConfig(), path.read_text(encoding="utf-8"))


def _points(path: Path) -> None:
    from isthmus.cloud.planning.measured import read

    read(path)


def _fleet(path: Path) -> None:
    from isthmus.router.simulation.scenario import read_scenario

    read_scenario(path)


_TOML: dict[str, Callable[[Path], None]] = {
    "edge.toml": _edge,
    "gateway.toml": _gateway,
    "policy.toml": _policy,
    "points.toml": _points,
    "fleet.toml": _fleet,
}
"""Who reads a file of that name."""
