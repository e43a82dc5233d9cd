"""What is deployed asks the program for nothing that it does not have."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import typing
from importlib import resources
from pathlib import Path

import promql_parser
import pytest
import typer
import yaml
from pydantic import BaseModel
from typer.exceptions import TyperException
from watching.exported import exported

from deploy_manifests import (
    DEPLOY,
    ROOT,
    VALUES,
    Start,
    compose,
    dockerfiles,
    of_pods,
    pods,
    starts,
    units,
)
from isthmus.cli.main import build
from isthmus.cloud.config import CloudConfig
from isthmus.cloud.serving.arguments import serve_flags
from isthmus.cloud.serving.config import ServingConfig
from isthmus.core.errors import ConfigError
from isthmus.core.settings import Settings
from isthmus.edge.config import EdgeConfig

SETTINGS = {"ISTHMUS_CLOUD_": CloudConfig, "ISTHMUS_EDGE_": EdgeConfig}
PLAIN = {"ISTHMUS_HOME"}
"""Variables that are no settings."""


def check_words(words: list[str]) -> None:
    """Parse a command line with the program's own parser. Raises `TyperException`."""
    command = typer.main.get_command(build(words[0]))
    rest = list(words)
    while commands := getattr(command, "commands", None):
        if (name := rest.pop(0)) not in commands:
            raise TyperException(f"no command {name!r}")
        command = commands[name]
    assert command.params
    command.make_context(command.name, rest)


def check_variable(name: str) -> None:
    """Raise `LookupError` for a variable that sets nothing."""
    if name in PLAIN:
        return
    prefix = next((prefix for prefix in SETTINGS if name.startswith(prefix)), None)
    if prefix is None:
        raise LookupError(name)
    kind: type[BaseModel] = SETTINGS[prefix]
    for part in name.removeprefix(prefix).lower().split("__"):
        if part not in kind.model_fields:
            raise LookupError(f"{name}: {part}")
        inner = kind.model_fields[part].annotation
        kind = next(
            (
                one
                for one in (inner, *typing.get_args(inner))
                if isinstance(one, type) and issubclass(one, BaseModel)
            ),
            BaseModel,
        )


def loaded(kind: type[Settings], text: str, env: dict[str, str], tmp_path: Path, monkeypatch):
    """The settings that a container starts with. Raises `ConfigError`."""
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    for name in [name for name in os.environ if name.startswith(tuple(SETTINGS))]:
        monkeypatch.delenv(name)  # the tests' own
    for name, value in env.items():
        if name.startswith("ISTHMUS_"):
            monkeypatch.setenv(name, value)
    return kind.load(path)


def config_maps(manifests) -> dict[str, dict[str, str]]:
    return {one["metadata"]["name"]: one["data"] for one in manifests if one["kind"] == "ConfigMap"}


def cloud_toml(manifests) -> str:
    return config_maps(manifests)["isthmus"]["cloud.toml"]


# --- every flag and every variable exists ---


@pytest.mark.parametrize("start", list(starts()), ids=lambda start: start.where)
def test_our_programs_are_started_with_flags_and_variables_that_they_have(start: Start):
    if start.ours:
        check_words(start.words)
    for name in start.env:
        if start.ours and not re.match(r"(PATH|PYTHON\w+)$", name):
            check_variable(name)


def test_the_charts_containers_too(manifests):
    ours = [start for start in of_pods(manifests) if start.ours]
    assert ours
    for start in ours:
        check_words(start.words)
        for name in start.env:
            check_variable(name)


@pytest.mark.parametrize(
    "words", [["cloud", "serve", "--confg", "x"], ["cloud", "srve"], ["edge", "serve", "extra"]]
)
def test_a_word_that_the_program_does_not_know_would_be_found(words):
    with pytest.raises(TyperException):
        check_words(words)


@pytest.mark.parametrize(
    "name", ["ISTHMUS_CLOUD_LISTENN", "ISTHMUS_CLOUD_BACKEND__URLL", "ISTHMUS_HOUSE"]
)
def test_a_variable_that_sets_nothing_would_be_found(name):
    with pytest.raises(LookupError):
        check_variable(name)


# --- the settings are good ---


def test_the_charts_settings_are_the_programs(manifests, tmp_path, monkeypatch):
    text = cloud_toml(manifests)
    *_, start = [start for start in of_pods(manifests) if start.ours]
    config = loaded(CloudConfig, text, start.env, tmp_path, monkeypatch)
    assert config.health_listen is not None
    assert config.metrics_listen is not None
    # A number of Helm's is no integer of TOML's unless the template makes it one.
    assert not re.search(r"= -?\d+\.0$", text, flags=re.M)


def test_a_setting_that_nobody_knows_would_be_found(tmp_path, monkeypatch):
    with pytest.raises(ConfigError):
        loaded(CloudConfig, "[backend]\nurll = 'x'", {}, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("service", "kind", "env"),
    [("gateway", CloudConfig, {}), ("agent", EdgeConfig, {"ISTHMUS_EDGE_TOKEN": "t"})],
)
def test_the_compose_files_settings_are_the_programs(service, kind, env, tmp_path, monkeypatch):
    name = {"gateway": "gateway.toml", "agent": "edge.toml"}[service]
    text = (DEPLOY / "compose" / name).read_text(encoding="utf-8")
    loaded(kind, text, env, tmp_path, monkeypatch)
    mounted = [volume for volume in compose()["services"][service]["volumes"] if name in volume]
    assert mounted[0].split(":")[1] == compose()["services"][service]["command"][-1]


def test_compose_asks_only_for_what_its_example_names():
    text = (DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text)) | {
        secret["environment"] for secret in compose()["secrets"].values()
    }
    files = [DEPLOY / "compose" / ".env.example", DEPLOY / "docker" / "images.env"]
    given = {
        line.split("=")[0]
        for file in files
        for line in file.read_text(encoding="utf-8").splitlines()
        if re.match(r"\w+=", line)
    }
    assert asked == given


# --- what runs can be probed, stopped and trusted with little ---


def test_probes_ask_where_the_gateway_answers(manifests):
    config = tomllib.loads(cloud_toml(manifests))
    ports = {
        name: int(config[setting].rpartition(":")[2])
        for name, setting in {
            "grpc": "listen",
            "metrics": "metrics_listen",
            "health": "health_listen",
        }.items()
    }
    (container,) = dict(pods(manifests))["isthmus"]["containers"]
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == ports
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["grpc"]["port"] == ports["health"]
    # A gateway that drains lives, and takes nothing.
    assert container["livenessProbe"]["grpc"]["service"] == "live"
    assert "service" not in container["readinessProbe"]["grpc"]


def test_a_pod_is_given_longer_to_end_than_its_answers(manifests, tmp_path, monkeypatch):
    config = loaded(CloudConfig, cloud_toml(manifests), {}, tmp_path, monkeypatch)
    pod = dict(pods(manifests))["isthmus"]
    assert config.drain_notice_s >= 2 * pod["containers"][0]["readinessProbe"]["periodSeconds"]
    assert pod["terminationGracePeriodSeconds"] >= config.drain_notice_s + config.drain_s + 10


def test_compose_and_systemd_give_longer_too(tmp_path, monkeypatch):
    text = (DEPLOY / "compose" / "gateway.toml").read_text(encoding="utf-8")
    drain_s = loaded(CloudConfig, text, {}, tmp_path, monkeypatch).drain_s
    assert int(compose()["services"]["gateway"]["stop_grace_period"].removesuffix("s")) > drain_s
    assert int(dict(units()["isthmus-gateway.service"])["TimeoutStopSec"]) > drain_s


def test_compose_can_write_its_secrets_where_they_are_read():
    services = compose()["services"]
    sealed = {name for name, service in services.items() if service.get("read_only")}
    assert sealed
    assert not [name for name in sealed if services[name].get("secrets")]


def test_no_manifest_holds_a_secret(manifests):
    for name, pod in pods(manifests):
        for container in pod["containers"]:
            for one in container.get("env", []):
                if re.search(r"TOKEN|KEY|PASSWORD|DSN|SECRET", one["name"]):
                    assert "secretKeyRef" in one["valueFrom"], f"{name}: {one['name']}"
    assert not [one for one in manifests if one["kind"] == "Secret"]


def test_the_gateway_may_do_little(manifests):
    pod = dict(pods(manifests))["isthmus"]
    security = pod["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert not security["allowPrivilegeEscalation"]
    assert not pod["automountServiceAccountToken"]
    assert pod["containers"][0]["resources"]["limits"]["memory"]


def test_selectors_find_the_pods_that_they_mean(manifests):
    labels = {
        one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"]
        for one in manifests
        if one["kind"] in {"Deployment", "StatefulSet"}
    }
    for manifest in manifests:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Service":
                selector = spec["selector"]
            case "PodDisruptionBudget" | "Deployment" | "StatefulSet":
                selector = spec["selector"]["matchLabels"]
            case "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
            case _:
                continue
        chosen = [name for name, has in labels.items() if selector.items() <= has.items()]
        assert len(chosen) == 1, (manifest["kind"], manifest["metadata"]["name"])


# --- vLLM is started as [serving] says ---


def test_vllm_is_given_the_flags_of_the_serving_section(values):
    if not values.get("vllm", {}).get("enabled"):
        assert "serving" not in values["config"]
        return
    serving = ServingConfig.model_validate(values["config"]["serving"])
    assert values["vllm"]["args"] == serve_flags(values["config"]["backend"]["model"], serving)


def test_a_vllm_of_the_charts_logs_as_little_as_one_in_the_gateway(manifests):
    ours = resources.files("isthmus.cloud.backends").joinpath("vllm_logging.json").read_text()
    for start in of_pods(manifests):
        if not start.ours:
            file = Path(start.env["VLLM_LOGGING_CONFIG_PATH"])
            assert json.loads(config_maps(manifests)[start.where][file.name]) == json.loads(ours)
            assert "--no-enable-log-requests" in start.words


# --- what is watched is measured ---


def test_rules_triggers_and_dashboards_ask_for_metrics_that_there_are(manifests):
    known = {series for metric in exported() for series in metric.series}
    name = r"(?:isthmus_(?:cloud|edge|fleet)|gen_ai_(?:client|server))_\w+"
    assert set(re.findall(name, yaml.safe_dump(manifests, width=10_000))) <= known


def rules_of(manifests) -> list[dict[str, typing.Any]]:
    found = [one for one in manifests if one["kind"] == "PrometheusRule"]
    return [rule for one in found for group in one["spec"]["groups"] for rule in group["rules"]]


def test_a_releases_rules_ask_for_what_is_in_its_own_namespace(manifests):
    for rule in rules_of(manifests):
        asked = list(selectors(promql_parser.parse(rule["expr"])))
        assert asked or rule["expr"].startswith("vector(")
        for selector in asked:
            assert 'namespace="isthmus"' in selector, (selector, rule)
        if "record" in rule:
            assert rule["labels"]["namespace"] == "isthmus"


def selectors(node: typing.Any) -> typing.Iterator[str]:
    """The vector selectors of a query."""
    match node:
        case promql_parser.VectorSelector():
            yield str(node)
        case promql_parser.MatrixSelector():
            yield str(node.vector_selector)
        case promql_parser.BinaryExpr():
            yield from selectors(node.lhs)
            yield from selectors(node.rhs)
        case promql_parser.Call():
            for argument in node.args:
                yield from selectors(argument)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr() | promql_parser.UnaryExpr():
            yield from selectors(node.expr)


def test_the_charts_rules_are_those_of_prometheus_beside_it(manifests):
    if not rules_of(manifests):
        return
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml"))
    beside = [
        rule
        for file in files
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    names = [rule.get("alert") or rule["record"] for rule in beside]
    assert [rule.get("alert") or rule["record"] for rule in rules_of(manifests)] == names


def test_the_scraped_jobs_have_the_names_that_rules_ask_for(manifests):
    jobs = {
        relabeling["replacement"]
        for one in manifests
        if one["kind"] == "ServiceMonitor"
        for endpoint in one["spec"]["endpoints"]
        for relabeling in endpoint["relabelings"]
    }
    assert jobs <= {"isthmus-gateway", "vllm"}
    text = (DEPLOY / "compose" / "prometheus.yml").read_text(encoding="utf-8")
    found = {job["job_name"] for job in yaml.safe_load(text)["scrape_configs"]}
    assert found == {"isthmus-gateway", "isthmus-agent", "vllm"}


def test_grafana_finds_every_dashboard(manifests):
    maps = [
        one
        for one in manifests
        if one["kind"] == "ConfigMap" and "grafana_dashboard" in one["metadata"]["labels"]
    ]
    if not rules_of(manifests):
        assert not maps
        return
    found = {
        json.loads(text)["uid"]: len(text.encode()) for one in maps for text in one["data"].values()
    }
    assert set(found) == {f"isthmus-{path.stem}" for path in (DEPLOY / "grafana").glob("*.json")}
    assert max(found.values()) < 1_000_000


def test_what_compose_mounts_is_there():
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (DEPLOY / "compose" / volume.split(":")[0]).exists(), f"{name}: {volume}"
                assert volume.endswith(":ro")


# --- images hold what they need, and nothing that is not known ---


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
    wanted = {
        re.split(r"[>=\[]", one)[0].replace("_", "-").lower() for one in project["dependencies"]
    }
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


def test_values_are_for_a_laptop_one_gpu_eight_gpus_llm_d_and_production_stack():
    assert [path.stem.removeprefix("values-") for path in VALUES] == [
        "eight-gpus",
        "laptop",
        "llm-d",
        "one-gpu",
        "production-stack",
    ]
