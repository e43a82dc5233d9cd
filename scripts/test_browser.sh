#!/usr/bin/env bash
# The page in Debian's Chromium, over real agents, with Playwright and axe-core. What is missing of
# the system's packages is installed where that is allowed.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
if [[ -z ${ISTHMUS_CHROMIUM:-} ]] && ! command -v chromium chromium-browser google-chrome >/dev/null; then
  packages+=(chromium)
fi
# The Chinese page is only tested where its letters can be drawn.
if ! fc-list :lang=zh 2>/dev/null | grep -q .; then
  packages+=(fontconfig fonts-wqy-microhei)
fi
if ((${#packages[@]})); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "test-browser needs Chromium and a Chinese font (Debian: ${packages[*]})" >&2
    exit 1
  fi
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    "${packages[@]}" >/dev/null
fi

.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt playwright
.venv/bin/isthmus model pull smollm2-135m
if [[ ${1:-} == --screenshots ]]; then
  exec .venv/bin/python tests/browser/screenshots.py docs/images
fi
exec .venv/bin/python -m pytest tests/browser "$@"
