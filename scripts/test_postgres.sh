#!/usr/bin/env bash
# The ledger on a real PostgreSQL, started here for the time of the tests and on no network.
set -euo pipefail
cd "$(dirname "$0")/.."

find_bin() { # the folder of Debian's newest initdb, or of the one in the PATH
  local found
  found=$(find /usr/lib/postgresql -path '*/bin/initdb' 2>/dev/null | sort -V | tail -1)
  found=${found:-$(command -v initdb || true)}
  [[ -n $found ]] && dirname "$found"
}

if ! bin=$(find_bin); then
  if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "test-postgres needs PostgreSQL's server (Debian: postgresql)" >&2
    exit 1
  fi
  # Without this the package makes a cluster of its own and starts it.
  mkdir -p /etc/postgresql-common
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
  bin=$(find_bin)
fi

as=() # PostgreSQL refuses to run as root
[[ $(id -u) != 0 ]] || as=(runuser -u postgres --)

work=$(mktemp -d)
chmod 711 "$work"
mkdir "$work/server"
[[ $(id -u) != 0 ]] || chown postgres "$work/server"
stop() {
  (cd / && "${as[@]}" "$bin/pg_ctl" -D "$work/server/data" -m immediate stop >/dev/null 2>&1) || true
  rm -rf "$work"
}
trap stop EXIT

# What survives a crash of the machine is PostgreSQL's to test; what a gateway's kill leaves is ours,
# and that needs no disk to be waited for.
options="-k $work/server -c listen_addresses= -c fsync=off -c max_connections=200"
control="${as[*]} $bin/pg_ctl -D $work/server/data -w -l $work/server/log -o '$options'"
(
  cd / # a folder that the server's user may be in
  "${as[@]}" "$bin/initdb" -D "$work/server/data" -U isthmus --auth trust -E UTF8 --locale C \
    >/dev/null
  eval "$control start" >/dev/null
) || {
  cat "$work/server/log" >&2 2>/dev/null || true
  exit 1
}

# Tests stop it and start it again.
export ISTHMUS_TEST_POSTGRES_CTL=$control ISTHMUS_TEST_POSTGRES_DATA=$work/server/data
export ISTHMUS_TEST_POSTGRES="postgresql://isthmus@/postgres?host=$work/server"
.venv/bin/python -m pytest -m postgres "$@"
