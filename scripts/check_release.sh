#!/usr/bin/env bash
# A release without its last step: the workflows, the archives, and what whoever installs them meets.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/.venv-release/bin
step() { echo "check-release: $*" >&2; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step "the workflows, by GitHub's schema and by zizmor"
"$tools/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
"$tools/zizmor" --offline --quiet --no-progress .github

step "the wheels that are meant"
for machine in x86_64 aarch64; do
  for python in 311 312 313 314; do echo "cp$python-manylinux_$machine"; done >"$work/meant"
  "$tools/cibuildwheel" --print-build-identifiers --platform linux --archs $machine . |
    diff "$work/meant" -
done

step "a checkout as a tag has it: nothing that git ignores"
mkdir "$work/checkout"
git ls-files -z --cached --others --exclude-standard |
  while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done |
  tar --create --null --files-from=- | tar --extract --directory "$work/checkout"

step "the sdist, and the wheel that pip makes of it"
"$tools/python" -m build --sdist --outdir "$work/dist" "$work/checkout" >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; exit 1; }
"$tools/python" -m pip wheel --quiet --disable-pip-version-check --no-deps \
  --wheel-dir "$work/dist" "$work"/dist/*.tar.gz
"$tools/python" "$work/checkout/scripts/check_archives.py" "$work"/dist/*
"$tools/twine" check --strict "$work"/dist/*

step "the wheel in an empty environment"
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$work"/dist/*.whl
cd "$work"
venv/bin/python checkout/scripts/check_installed.py

step "the first run, from an empty home"
venv/bin/python checkout/scripts/check_first_run.py venv home
