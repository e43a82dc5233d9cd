"""The chart refuses what would go wrong later."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from deploy_manifests import operators_say, pods, render

pytestmark = pytest.mark.usefixtures("helm")

GOOD: dict[str, Any] = {
    "config": {"backend": {"kind": "openai", "url": "http://u/v1", "model": "m"}},
    "tls": {"secretName": "t"},
    "auth": {"tokenSecretName": "k"},
}


def rendered(**more: Any) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(render(GOOD | more)))


def test_one_gateway_keeps_its_ledger_in_a_volume_that_outlives_it():
    manifests = rendered()
    (volume,) = [one for one in manifests if one["kind"] == "PersistentVolumeClaim"]
    assert volume["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    (deployment,) = [one for one in manifests if one["kind"] == "Deployment"]
    assert deployment["spec"]["strategy"]["type"] == "Recreate"


def test_alerts_and_dashboards_lead_to_where_the_documentation_is_read():
    parts = {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}
    text = render(GOOD | {"monitoring": {"docs": "https://docs.your.org/isthmus/", **parts}})
    assert "isthmus.example" not in text
    kinds = {
        one["kind"]
        for one in yaml.safe_load_all(text)
        if "https://docs.your.org/isthmus/runbooks/" in yaml.safe_dump(one, width=10**6)
    }
    assert kinds == {"PrometheusRule", "ConfigMap"}


def test_a_gateway_reaches_all_that_its_settings_name_unless_told_what_it_may():
    def egress(**more):
        manifests = rendered(vllm={"enabled": True, "args": ["m"]}, **more)
        policies = [one for one in manifests if one["kind"] == "NetworkPolicy"]
        (mine,) = [one for one in policies if "Egress" in one["spec"]["policyTypes"]]
        return mine["spec"]["egress"]

    tracing = {"config": {"tracing": {"endpoint": "http://tempo.traces:4318"}, **GOOD["config"]}}
    assert {} not in egress()
    assert {} in egress(ledger={"dsnSecretName": "l"})
    assert {} in egress(**tracing)
    assert {} not in egress(**tracing, networkPolicy={"egress": [{"ports": [{"port": 4318}]}]})


@pytest.mark.parametrize(
    "more",
    [
        {"replicas": 2},
        {"autoscaling": {"kind": "hpa"}},
        {"autoscaling": {"kind": "keda"}},
    ],
)
def test_several_gateways_are_refused_without_postgresql(more):
    with pytest.raises(ValueError, match="more than one gateway needs PostgreSQL"):
        rendered(**more)
    manifests = rendered(**more, ledger={"dsnSecretName": "l"})
    assert not [one for one in manifests if one["kind"] == "PersistentVolumeClaim"]
    (config,) = [one for one in manifests if one["kind"] == "ConfigMap"]
    assert 'kind = "postgresql"' in config["data"]["cloud.toml"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"tls": {}}, "tls.secretName is needed"),
        ({"tls": {"secretName": "t", "plaintext": True}}, "exclude each other"),
        ({"config": {"backend": {"kind": "openai", "url": ""}}}, "names the upstream"),
        ({"vllm": {"enabled": True}}, "vllm.args names the model"),
        ({"auth": {}}, "nobody is asked who they are"),
        ({"replicas": 0}, "replicas"),
        ({"replcas": 1}, "replcas"),
        ({"image": {"digest": "sha256:12"}}, "digest"),
        ({"autoscaling": {"kind": "vpa"}}, "kind"),
    ],
)
def test_values_that_cannot_work_are_refused(more, said):
    with pytest.raises(ValueError, match=said):
        rendered(**more)


def test_a_digest_goes_over_the_tag():
    digest = "sha256:" + "a" * 64
    (_, pod), *_ = pods(rendered(image={"repository": "r/gateway", "digest": digest}))
    assert pod["containers"][0]["image"] == f"r/gateway@{digest}"


def test_plain_text_is_said_in_so_many_words():
    (config,) = [one for one in rendered(tls={"plaintext": True}) if one["kind"] == "ConfigMap"]
    assert "allow_plaintext = true" in config["data"]["cloud.toml"]
    assert "tls_cert_file" not in config["data"]["cloud.toml"]


def test_a_field_that_an_operator_does_not_know_would_be_found(tmp_path):
    kinds = {
        "monitoring.coreos.com/v1": {
            "ServiceMonitor": {
                "selector": {},
                "endpoints": [{"port": "metrics", "interval": "15 seconds", "schema": "http"}],
            },
            "PrometheusRule": {"groups": [{"name": "g", "rules": [{"expr": "up", "For": "5m"}]}]},
        },
        "keda.sh/v1alpha1": {
            "ScaledObject": {"minReplicaCount": "2", "triggers": [{"type": "cpu"}]}
        },
        "example.org/v1": {"Unknown": {}},
    }
    manifests = [
        {"apiVersion": version, "kind": kind, "metadata": {"name": "n"}, "spec": spec}
        for version, of_version in kinds.items()
        for kind, spec in of_version.items()
    ]
    said = operators_say(yaml.safe_dump_all(manifests), tmp_path / "wrong.yaml")
    assert {line.rpartition(":")[0] if "spec" in line else line for line in said} == {
        "ServiceMonitor: spec.endpoints.0.interval",
        "ServiceMonitor: spec.endpoints.0.schema",
        "PrometheusRule: spec.groups.0.rules.0.For",
        "ScaledObject: spec.scaleTargetRef",
        "ScaledObject: spec.minReplicaCount",
        "ScaledObject: spec.triggers.0.metadata",
        "Unknown: no schema of example.org/v1 is known",
    }


def test_a_kind_that_is_no_longer_there_to_be_checked_would_be_found(tmp_path):
    said = operators_say("", tmp_path / "empty.yaml")
    assert said == [
        f"{kind}: in none of the files"
        for kind in ("ScaledObject", "PrometheusRule", "ServiceMonitor")
    ]
