"""What is deployed asks the program for nothing that it does not have."""

from __future__ import annotations

import json
import os
import re
import tomllib
import typing
from importlib import resources
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel
from typer.exceptions import TyperException

from deploy_manifests import (
    DEPLOY,
    VALUES,
    Start,
    compose,
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


def test_what_compose_mounts_is_there():
    for name, service in compose()["services"].items():
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (DEPLOY / "compose" / volume.split(":")[0]).exists(), f"{name}: {volume}"
                assert volume.endswith(":ro")


def test_values_are_for_a_laptop_one_gpu_eight_gpus_llm_d_and_production_stack():
    assert [path.stem.removeprefix("values-") for path in VALUES] == [
        "eight-gpus",
        "laptop",
        "llm-d",
        "one-gpu",
        "production-stack",
    ]


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
