#!/usr/bin/env bash
# Every query of every dashboard, rule and console, asked of a real Prometheus that scrapes the real
# program under a short load. No Grafana is needed; how a panel looks is not seen here.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "check-dashboards needs prometheus and promtool (Debian: prometheus)" >&2
    exit 1
  fi
  # Without this the package would start a server of its own.
  policy=/usr/sbin/policy-rc.d
  [[ -e $policy ]] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy && made=1; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus \
    >/dev/null
  [[ -z ${made:-} ]] || rm $policy
fi

.venv/bin/python -m pytest --quiet tests/unit/test_watching.py
.venv/bin/isthmus model pull smollm2-135m
PYTHONPATH=scripts .venv/bin/python -m watching.check "$@"
