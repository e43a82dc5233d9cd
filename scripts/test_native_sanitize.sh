#!/usr/bin/env bash
# The native backend's tests against builds of it with sanitizers: memory errors, undefined
# behaviour, and data races of its threads. `test_native_sanitize.sh thread` runs one build alone.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.venv/bin/python

build() { # sanitizers -> build/sanitize-NAME/_native*.so
  local folder="build/sanitize-$1"
  mkdir -p "$folder"
  $python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$folder" \
    -C "build-dir=$folder/cmake" -C "cmake.define.ISTHMUS_SANITIZE=$1" -C install.strip=false \
    -C cmake.build-type=RelWithDebInfo .  # with the names that a report needs
  $python -m zipfile -e "$folder"/isthmus-*.whl "$folder/wheel"
}

library() { "${CXX:-g++}" -print-file-name="$1"; }

run_tests() { # sanitizers, runtime library
  build "$1"
  # The runtime has to come first, and needs the C++ library to find what it wraps. Python's own
  # allocator would hide small overflows; what Python leaks is not ours. A report goes
  # to the descriptor itself, which pytest would capture and lose.
  env LD_PRELOAD="$(library "$2") $(library libstdc++.so)" PYTHONMALLOC=malloc \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
    TSAN_OPTIONS="halt_on_error=1 ignore_noninstrumented_modules=1" \
    OPENBLAS_NUM_THREADS=1 PYTHONPATH=tests \
    ISTHMUS_NATIVE="build/sanitize-$1/wheel/isthmus/kernels" \
    $python -m pytest -p other_native -q --capture sys --timeout 600 \
    tests/kernels/test_native_backend.py tests/kernels/test_bpe.py
}

wanted=${1:-address,undefined thread}
[[ $wanted != *address* ]] || run_tests address,undefined libasan.so
[[ $wanted != *thread* ]] || run_tests thread libtsan.so
