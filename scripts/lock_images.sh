#!/usr/bin/env bash
# The images' lock files: every package with the hashes of its files, at the versions that the tests
# ran with (constraints.txt). Run it after a change of dependencies, and commit what it writes.
set -euo pipefail
cd "$(dirname "$0")/.."

uv=${UV:-.venv-deploy/bin/uv}
# uv has no setting of pip's; a registry behind a certificate of one's own is found as pip finds it.
[[ -z ${PIP_CERT:-} ]] || export SSL_CERT_FILE=${SSL_CERT_FILE:-$PIP_CERT}

lock() { # name, source, and more for uv: the lock file of a list of requirements
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --constraint constraints.txt \
    --custom-compile-command scripts/lock_images.sh --output-file "deploy/docker/$1.txt" "${@:2}"
}

lock gateway deploy/docker/gateway.in
lock edge pyproject.toml --extra otel
lock build deploy/docker/build.in
