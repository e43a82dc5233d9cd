"""Hold manifests of the operators' own kinds to the schemas that the operators ship.

    check_operators.py FILE...      # a finding, or a kind that is in no file, ends it with 1

Kubernetes has no schema for a ServiceMonitor, a PrometheusRule or a ScaledObject; packages of
models that are made from the custom resource definitions of prometheus-operator and KEDA have. A
field that they do not know is an error, and so is a number in quotes, as for the API server under
strict validation. Runs in the environment of scripts/check_deploy.sh.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError

MODELS = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): "cloudcoil.models.prometheus_operator.v1",
    ("monitoring.coreos.com/v1", "PrometheusRule"): "cloudcoil.models.prometheus_operator.v1",
    ("keda.sh/v1alpha1", "ScaledObject"): "cloudcoil.models.keda.v1alpha1",
}
"""API version and kind → the module of its model."""
BUILT_IN = (".k8s.io",)
"""Groups that Kubernetes itself has a schema for; those without a dot are its too."""


def findings(text: str, seen: set[tuple[str, str]]) -> Iterator[str]:
    """What is wrong with the manifests of a YAML text; `seen` gets the kinds that were checked."""
    for manifest in yaml.safe_load_all(text):
        if not manifest:
            continue
        kind = (manifest["apiVersion"], manifest["kind"])
        group = kind[0].rpartition("/")[0]
        if "." not in group or group.endswith(BUILT_IN):
            continue
        if kind not in MODELS:
            yield f"{kind[1]}: no schema of {kind[0]} is known"
            continue
        seen.add(kind)
        model: type[BaseModel] = getattr(import_module(MODELS[kind]), kind[1])
        try:
            model.model_validate(manifest, strict=True, extra="forbid")
        except ValidationError as error:
            for one in error.errors():
                yield f"{kind[1]}: {'.'.join(map(str, one['loc']))}: {one['msg']}"


def main(files: list[str]) -> int:
    """The exit status."""
    seen: set[tuple[str, str]] = set()
    found = [
        f"{file}: {finding}"
        for file in files
        for finding in findings(Path(file).read_text(encoding="utf-8"), seen)
    ]
    found += [f"{kind}: in none of the files" for _, kind in sorted(MODELS.keys() - seen)]
    for line in found:
        print(line, file=sys.stderr)
    return min(1, len(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
