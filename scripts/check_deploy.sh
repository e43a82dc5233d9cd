#!/usr/bin/env bash
# What is deployed, checked without a cluster, a registry or a container: with public tools in an
# environment of their own, and by tests that compare the manifests with the program.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-deploy
stamp=$venv/.ready
step() { echo "check-deploy: $*" >&2; }

if [[ ! -e $stamp || deploy/requirements-check.txt -nt $stamp ]]; then
  step "installing the tools"
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    -r deploy/requirements-check.txt
  touch "$stamp"
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step "the chart, by Helm"
mkdir "$work/chart"
# Dashboards and rules lie beside the chart and are linked into it, which Helm finds worth telling.
"$venv/bin/python" scripts/render_chart.py "$work/chart" 2> >(grep -v "found symbolic link" >&2)

step "its manifests, by the schemas of Kubernetes"
for version in 1.28 1.37; do # the oldest that the chart is for, and the newest that is known
  "$venv/bin/kubernetes-validate" -k "$version" --strict --quiet --no-warn "$work"/chart/*.yaml
done

step "its ServiceMonitor, PrometheusRule and ScaledObject, by the schemas of their operators"
"$venv/bin/python" scripts/check_operators.py "$work"/chart/*.yaml

step "the compose file, by its specification"
"$venv/bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose/compose.yaml

step "the Dockerfiles, by hadolint"
"$venv/bin/hadolint" --failure-threshold style deploy/docker/*.Dockerfile

if command -v systemd-analyze >/dev/null; then
  step "the units, by systemd"
  for unit in deploy/systemd/*.service; do
    # It asks for the program itself, which is not installed here.
    sed 's#^ExecStart=/opt/isthmus/bin/isthmus.*#ExecStart=/bin/true#' "$unit" \
      >"$work/${unit##*/}"
  done
  # A key that it does not know is a warning and no failure to systemd.
  if said=$(systemd-analyze verify "$work"/*.service 2>&1 | grep isthmus-); then
    echo "$said" >&2
    exit 1
  fi
  # 0 is sealed, 10 is open; what is left is the network and, on devices, the GPU.
  systemd-analyze security --offline=true --threshold=20 "$work"/*.service >/dev/null
fi

step "the rules and what they are tested with, by promtool, and where alerts go, by amtool"
scripts/install_debian.sh promtool prometheus amtool prometheus-alertmanager
promtool check config --syntax-only deploy/compose/prometheus.yml
promtool check config deploy/prometheus/prometheus.yml # its rules too
promtool test rules deploy/prometheus/tests/*.yaml
amtool check-config deploy/prometheus/alertmanager.yml

step "the manifests beside the program"
.venv/bin/python -m pytest --quiet tests/deploy --junitxml="$work/report.xml"
# Here the capability may not be missing: a test that was skipped was not run.
.venv/bin/python - "$work/report.xml" <<'PYTHON'
import sys
import xml.etree.ElementTree as ET

suites = list(ET.parse(sys.argv[1]).getroot().iter("testsuite"))
if sum(int(suite.get("skipped", "0")) for suite in suites):
    sys.exit("check-deploy: tests were skipped; none may be")
PYTHON
