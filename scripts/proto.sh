#!/usr/bin/env bash
# Make the Python stubs of proto/isthmus/v1 beside their sources; --check only compares.
# Needs grpcio-tools and mypy-protobuf; PYTHON names the interpreter that has them.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-.venv/bin/python}
mode=${1:-write}
[[ $mode == write || $mode == --check ]] || { echo "usage: scripts/proto.sh [--check]" >&2; exit 2; }

# protoc finds the mypy plugins beside the interpreter, whatever PATH says.
bin=$("$python" -c 'import os, sys; print(os.path.dirname(sys.executable))')
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

"$python" -m grpc_tools.protoc -Iproto \
  --plugin=protoc-gen-mypy="$bin/protoc-gen-mypy" \
  --plugin=protoc-gen-mypy_grpc="$bin/protoc-gen-mypy_grpc" \
  --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  proto/isthmus/v1/*.proto

# A file with no service gets an empty _pb2_grpc.py; nobody imports it, so it is not kept.
for source in proto/isthmus/v1/*.proto; do
  if ! grep -q '^service ' "$source"; then
    base=$out/isthmus/v1/$(basename "$source" .proto)
    rm -f "${base}_pb2_grpc.py" "${base}_pb2_grpc.pyi"
  fi
done

stubs() { (cd "$1/isthmus/v1" && ls ./*_pb2*.py ./*_pb2*.pyi 2>/dev/null | sort); }

if [[ $mode == --check ]]; then
  stale=0
  if [[ $(stubs "$out") != "$(stubs proto)" ]]; then
    echo "the committed stubs are not those of the .proto files:" >&2
    diff <(stubs "$out") <(stubs proto) >&2 || true
    stale=1
  fi
  for stub in $(stubs "$out"); do
    cmp -s "$out/isthmus/v1/$stub" "proto/isthmus/v1/$stub" || { echo "stale: proto/isthmus/v1/${stub#./}" >&2; stale=1; }
  done
  [[ $stale == 0 ]] || { echo "run 'make proto' and commit the result" >&2; exit 1; }
  echo "the proto stubs are fresh"
else
  rm -f proto/isthmus/v1/*_pb2*.py proto/isthmus/v1/*_pb2*.pyi
  cp "$out"/isthmus/v1/*_pb2* proto/isthmus/v1/
  echo "wrote $(stubs proto | wc -l) stubs to proto/isthmus/v1"
fi
