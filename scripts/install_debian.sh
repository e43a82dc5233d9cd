#!/usr/bin/env bash
# Debian's packages of programs that are not there: install_debian.sh PROGRAM PACKAGE [PROGRAM PACKAGE]...
# None of the services among them is started.
set -euo pipefail

packages=()
while (($#)); do
  command -v "$1" >/dev/null || packages+=("$2")
  shift 2
done
((${#packages[@]})) || exit 0
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
  echo "this needs programs of the packages ${packages[*]} (Debian's names)" >&2
  exit 1
fi
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" \
  >/dev/null
