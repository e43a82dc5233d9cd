# One command a chore, the same one here and in CI. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# A module that was moved is looked for at its old place until the next install.
MOVED := $(shell test ! -e $(READY) || $(BIN)/python scripts/moved_modules.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format docs proto test-vllm test-neon test-opencl test-native-sanitize
.PHONY: dashboards check-dashboards docs-site translated test-docs test-browser screenshots
.PHONY: test-postgres bench bench-peers bench-litellm chaos check-deploy check-release release-tools
.PHONY: soak clean FORCE

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup: $(READY)  ## make .venv and install the project into it

$(READY): pyproject.toml constraints.txt edge/isthmus/edge/page/package-lock.json $(wildcard kernels/native/*) $(if $(MOVED),FORCE)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

FORCE:

demo: setup  ## run everything on this machine: agent, gateway, metrics
	@$(BIN)/isthmus up

test: setup  ## the test suite: no vLLM, no GPU, no browser needed
	$(BIN)/isthmus model pull smollm2-135m
	$(BIN)/python -m pytest -n 2 --dist loadfile \
		-m 'not vllm and not chaos and not postgres and not docs and not browser'

check: setup  ## lint, types, import rules, wire contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/buf lint proto
	scripts/proto.sh --check
	$(BIN)/mypy scripts/watching scripts/dashboards scripts/documents scripts/release_notes.py \
	  scripts/check_archives.py scripts/check_installed.py scripts/check_first_run.py
	PYTHONPATH=scripts $(BIN)/python -m dashboards.write --check
	PYTHONPATH=scripts $(BIN)/python -m watching.page --check
	PYTHONPATH=scripts $(BIN)/python -m documents.nav --check
	PYTHONPATH=scripts $(BIN)/python -m documents.translated

format: setup  ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dashboards: setup  ## write deploy/grafana from scripts/dashboards
	PYTHONPATH=scripts $(BIN)/python -m dashboards.write

docs: setup  ## write the pages that are made from the program
	PYTHONPATH=scripts $(BIN)/python -m watching.page
	PYTHONPATH=scripts $(BIN)/python -m documents.nav

translated: setup  ## say that README.zh.md was brought up to date with README.md
	PYTHONPATH=scripts $(BIN)/python -m documents.translated --seen

docs-site: setup  ## the documentation as a site, in build/site; a broken link is an error
	$(BIN)/zensical build --strict --clean

test-docs: setup  ## what the documentation tells readers to paste, page by page
	$(BIN)/isthmus model pull smollm2-135m
	$(BIN)/python -m pytest --quiet --capture no tests/docs/test_blocks.py -k every_block
	$(BIN)/python -m pytest -m docs tests/docs

proto: setup  ## generate the stubs beside the .proto files
	scripts/proto.sh

test-vllm: setup  ## the whole road through a real vLLM, in an environment of its own
	scripts/test_vllm.sh

test-browser: setup  ## the agent's page in a real Chromium, with axe-core
	scripts/test_browser.sh

screenshots: setup  ## pictures of the page for the documentation
	scripts/test_browser.sh --screenshots

test-postgres: setup  ## the ledger on a PostgreSQL of its own
	scripts/test_postgres.sh

test-native-sanitize: setup  ## the native kernels under address, undefined and thread sanitizers
	scripts/test_native_sanitize.sh

chaos: setup  ## load, faults and fuzzing against gateways in processes of their own, reduced counts
	$(BIN)/python -m pytest -m 'not postgres' tests/chaos

soak: setup  ## the full counts: engine, privacy gate, gateways under load and faults, fuzzing
	ISTHMUS_SOAK_REQUESTS=10000 $(BIN)/python -m pytest tests/unit/test_soak.py
	ISTHMUS_SOAK_CONVERSATIONS=100000 $(BIN)/python -m pytest tests/e2e/test_privacy_leaks.py
	ISTHMUS_SOAK=1 $(BIN)/python -m pytest --timeout 3600 -m 'not postgres' tests/chaos
	ISTHMUS_SOAK=1 scripts/test_postgres.sh --timeout 3600 tests/chaos

bench: setup  ## what this machine reaches: the engine, and the kernels of its OpenCL device
	$(BIN)/isthmus model pull smollm2-135m
	$(BIN)/isthmus bench engine --runs 3
	$(BIN)/isthmus tune --seconds 20

bench-peers:  ## llama.cpp in an environment of its own, for isthmus bench --vs
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check llama-cpp-python==0.3.36

bench-litellm:  ## LiteLLM's proxy in an environment of its own, for isthmus bench gateway --vs
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/python -m pip install --quiet --disable-pip-version-check 'litellm[proxy]==1.106.2'

test-neon:  ## the NEON kernels, cross-compiled and run under qemu
	scripts/test_neon.sh

test-opencl: setup  ## the OpenCL kernels on PoCL, every variant that a CPU can run
	scripts/test_opencl.sh

check-deploy: setup  ## images, compose, chart and units, checked without a cluster
	scripts/check_deploy.sh

check-dashboards: setup  ## every query of dashboards, rules and consoles, on a real Prometheus
	scripts/check_dashboards.sh

check-release: release-tools  ## workflows, sdist and wheel, and a first run from an empty home
	scripts/check_release.sh

release-tools: .venv-release/.ready

.venv-release/.ready: scripts/requirements-release.txt
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

clean:  ## remove everything that was built
	rm -rf $(VENV) .venv-vllm .venv-peers .venv-litellm .venv-deploy .venv-release build
