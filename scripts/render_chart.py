"""Render the Helm chart without a cluster, and lint it.

    render_chart.py OUT      # every values file, to OUT/NAME.yaml; a finding ends it with 1
    render_chart.py -        # with the values on stdin, a JSON object, to stdout

Runs with helm-python-sdk, which has Helm inside (scripts/check_deploy.sh).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import helm_python as helm

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "isthmus"
NAMESPACE = "isthmus"


def render(chart: helm.Chart, values: Mapping[str, Any]) -> str:
    """The manifests, one YAML text. Raises `HelmError` for values that the chart refuses."""
    chart.validate_schema(dict(values))
    rendered = chart.render(dict(values), name="isthmus", namespace=NAMESPACE)
    return "---\n".join(
        f"# Source: {path}\n{text.strip()}\n"
        for path, text in sorted(rendered.items())
        if text.strip() and path.endswith(".yaml")
    )


def render_all(chart: helm.Chart, out: Path) -> int:
    """Every values file beside the chart, into `out`; the number of findings."""
    findings = 0
    for values_file in sorted(CHART.parent.glob("values-*.yaml")):
        name = values_file.stem.removeprefix("values-")
        values = helm.values_from_yaml(values_file.read_text(encoding="utf-8"))
        for message in helm.lint(CHART, values=values, strict=True)["messages"]:
            if message["severity"] > 1:  # what is only information is about an icon
                print(f"{name}: {message['path']}: {message['error']}", file=sys.stderr)
                findings += 1
        (out / f"{name}.yaml").write_text(render(chart, values), encoding="utf-8")
    return findings


def main(where: str) -> int:
    """The exit status."""
    with helm.Chart.load(CHART) as chart:
        if where != "-":
            return min(1, render_all(chart, Path(where)))
        try:
            print(render(chart, json.load(sys.stdin)))
        except helm.HelmError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
