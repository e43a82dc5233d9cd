#!/usr/bin/env bash
# Installs each wheel of a folder into an empty environment of its Python, with its dependencies as
# wheels, and looks whether it is whole: scripts/check_wheels.sh dist
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)

for wheel in "$1"/*.whl; do
  wheel=$(realpath "$wheel")
  [[ $wheel =~ -cp3([0-9]+)- ]] || { echo "$wheel is for no CPython" >&2; exit 1; }
  # Outside the checkout, whose folders would be found first.
  (cd / && "$root/.venv-release/bin/uv" run --quiet --isolated --no-project --no-build \
    --python "3.${BASH_REMATCH[1]}" --with "$wheel" -- python "$root/scripts/check_installed.py")
done
