#!/usr/bin/env bash
# The OpenCL backend on Debian's PoCL, the CPU driver that needs no GPU. A driver has to be there.
set -euo pipefail
cd "$(dirname "$0")/.."

vendors=${OCL_ICD_VENDORS:-/etc/OpenCL/vendors}
if ! compgen -G "$vendors/*.icd" >/dev/null; then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "test-opencl needs an OpenCL driver (Debian: pocl-opencl-icd, ocl-icd-libopencl1)" >&2
    exit 1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    ocl-icd-libopencl1 pocl-opencl-icd >/dev/null
fi
# A name in place of "all that work": without that device the tests fail and do not skip.
export OCL_ICD_VENDORS=$vendors ISTHMUS_TEST_OPENCL=PoCL
.venv/bin/isthmus model pull smollm2-135m
.venv/bin/python -m pytest tests/kernels/test_opencl_*.py
