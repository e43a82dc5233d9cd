#!/usr/bin/env bash
# Every query of every dashboard, rule and console, asked of a real Prometheus that scrapes the real
# program under a short load. No Grafana is needed; how a panel looks is not seen here.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/install_debian.sh prometheus prometheus promtool prometheus

.venv/bin/python -m pytest --quiet tests/unit/test_watching.py
.venv/bin/isthmus model pull smollm2-135m
PYTHONPATH=scripts .venv/bin/python -m watching.check "$@"
