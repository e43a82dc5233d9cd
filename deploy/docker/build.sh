#!/usr/bin/env bash
# Build an image, `gateway` or `edge`, on a base that is pinned by its digest.
# The digest comes from deploy/docker/images.env or from the environment.
set -euo pipefail
cd "$(dirname "$0")/../.."

which=${1:-}
[[ $which == gateway || $which == edge ]] || { echo "usage: $0 gateway|edge [TAG]" >&2; exit 2; }
tag=${2:-isthmus-$which:dev}

digest=${PYTHON_DIGEST:-}
# shellcheck source=/dev/null
source deploy/docker/images.env
digest=${digest:-$PYTHON_DIGEST}
if [[ ! $digest =~ ^sha256:[0-9a-f]{64}$ ]]; then
  cat >&2 <<TEXT
$0: the base image has no digest. Look it up and write it into deploy/docker/images.env:
  docker buildx imagetools inspect $PYTHON_IMAGE --format '{{.Manifest.Digest}}'
TEXT
  exit 2
fi
exec docker build --file "deploy/docker/$which.Dockerfile" --tag "$tag" \
  --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" --build-arg "PYTHON_DIGEST=$digest" .
