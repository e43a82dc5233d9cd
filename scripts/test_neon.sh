#!/usr/bin/env bash
# The NEON kernels: cross-compiled, and run under qemu against plain arithmetic.
set -euo pipefail
cd "$(dirname "$0")/.."

compiler=${AARCH64_CXX:-aarch64-linux-gnu-g++}
emulator=${QEMU_AARCH64:-qemu-aarch64-static}
if ! command -v "$compiler" >/dev/null || ! command -v "$emulator" >/dev/null; then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "test-neon needs $compiler and $emulator (Debian: g++-aarch64-linux-gnu, qemu-user-static)" >&2
    exit 1
  fi
  apt-get update -qq
  # What these recommend would bring an init system and its services to a bare machine.
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    g++-aarch64-linux-gnu qemu-user-static >/dev/null
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=c++20 -O2 -Wall -Wextra -Werror)
# As kernels/native/CMakeLists.txt builds them.
kernels=(-O3 -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math
  -ffp-contract=fast -fno-exceptions -fno-rtti)
native=kernels/native
"$compiler" "${flags[@]}" "${kernels[@]}" -DISTHMUS_ISA=scalar -c $native/kernels.cpp -o "$work/scalar.o"
"$compiler" "${flags[@]}" "${kernels[@]}" -DISTHMUS_ISA=neondot -march=armv8.2-a+dotprod+fp16 \
  -c $native/kernels.cpp -o "$work/neondot.o"
"$compiler" "${flags[@]}" -DISTHMUS_ARM64=1 -static $native/cpu.cpp tests/kernels/kernels_test.cpp \
  "$work/scalar.o" "$work/neondot.o" -o "$work/kernels_test"
"$emulator" -cpu max "$work/kernels_test" neondot
