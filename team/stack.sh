#!/usr/bin/env bash
# The parts of compose.yaml without Docker: PostgreSQL, an S3 store and MLflow with logins, in one folder, TEAM_DIR.
#
#   team/stack.sh up      start what does not run; a folder that is new is filled first
#   team/stack.sh down    stop what `up` started, by its pid files, and nothing else
#   team/stack.sh backup FOLDER     both databases and both buckets, while it runs
#   team/stack.sh restore FOLDER    put them in place of what is there; MLflow starts again
#   team/stack.sh upgrade           bring MLflow's database to the version that is installed; MLflow starts again
#
# Reads .env (TEAM_ENV), and takes 20 ports from TEAM_PORT on: MLflow, PostgreSQL, S3, and those that S3 opens inside.
set -euo pipefail
cd "$(dirname "$0")/.."
ENV_FILE=$(realpath "${TEAM_ENV:-.env}")
DIR=$(realpath --canonicalize-missing "${TEAM_DIR:-.team}")

fail() { echo "error: $*" >&2; exit 1; }

[ -f "$ENV_FILE" ] || fail "$ENV_FILE: no such file; \`make .env\` makes one"
set -a
. "$ENV_FILE"
set +a
PORT=$TEAM_PORT HOST=$TEAM_HOST

BIN=$(ls -d /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin 2> /dev/null | sort -V | tail -1) || true
[ -n "$BIN" ] || BIN=$(dirname "$(command -v pg_ctl || true)")
[ -x "$BIN/pg_ctl" ] || fail "PostgreSQL is not installed; on Debian: apt-get install postgresql"

as_owner() { # PostgreSQL does not run as root
    if [ "$(id -u)" = 0 ]; then (cd / && setpriv --reuid=postgres --regid=postgres --init-groups "$@"); else "$@"; fi
}

sql() { # a program of PostgreSQL's, and its arguments
    local program=$1
    shift
    PGHOST=127.0.0.1 PGPORT=$((PORT + 1)) PGUSER=mlflow PGPASSWORD=$POSTGRES_PASSWORD "$BIN/$program" "$@"
}

copy_buckets() { # get or put, and a folder
    python - "$1" "$2" << 'END'
import os, sys
from s3fs import S3FileSystem
store = S3FileSystem(endpoint_url=f"http://127.0.0.1:{int(os.environ['TEAM_PORT']) + 2}")
for bucket in ("mlflow", "dvc"):
    here, there = f"{sys.argv[2]}/{bucket}/", f"{bucket}/"
    os.makedirs(here, exist_ok=True)
    if sys.argv[1] == "get" and store.ls(bucket):
        store.get(there, here, recursive=True)
    elif sys.argv[1] == "put" and os.listdir(here):
        store.put(here, there, recursive=True)
END
}

runs() { [ -f "$DIR/$1.pid" ] && kill -0 "$(cat "$DIR/$1.pid")" 2> /dev/null; }

database_runs() { as_owner "$BIN/pg_ctl" status -D "$DIR/postgres" > /dev/null 2>&1; }

check_ports() {
    for ((port = PORT; port < PORT + 20; port++)); do
        if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            fail "port $port is in use; set TEAM_PORT in $ENV_FILE so that 20 ports from there are free"
        fi
    done
}

await() { # a name, and the address that answers once it is up
    for ((try = 0; try < 300; try++)); do
        if python -c "import urllib.request as u; u.urlopen('$2', timeout=2)" 2> /dev/null; then return; fi
        runs "$1" || fail "$1 ended; its last lines: $(tail -3 "$DIR/$1.log")"
        sleep 0.3
    done
    fail "$1 does not answer at $2; see $DIR/$1.log"
}

start() { # a name, then its command
    local name=$1
    shift
    setsid "$@" > "$DIR/$name.log" 2>&1 < /dev/null &
    echo $! > "$DIR/$name.pid"
}

start_database() {
    if [ ! -f "$DIR/postgres/PG_VERSION" ]; then
        mkdir -p "$DIR/postgres"
        (umask 077; echo "$POSTGRES_PASSWORD" > "$DIR/password")
        [ "$(id -u)" != 0 ] || chown postgres: "$DIR/postgres" "$DIR/password"
        as_owner "$BIN/initdb" -D "$DIR/postgres" -U mlflow --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 \
            --pwfile="$DIR/password" > "$DIR/initdb.log" 2>&1 || fail "initdb: $(tail -1 "$DIR/initdb.log")"
        rm "$DIR/password"
    fi
    as_owner "$BIN/pg_ctl" start -w -D "$DIR/postgres" -l "$DIR/postgres/server.log" \
        -o "-p $((PORT + 1)) -c listen_addresses=127.0.0.1 -c unix_socket_directories=''" > /dev/null ||
        fail "PostgreSQL does not start; see $DIR/postgres/server.log"
    for name in mlflow mlflow_auth; do
        [ -n "$(sql psql -qAt postgres -c "SELECT 1 FROM pg_database WHERE datname = '$name'")" ] || sql createdb "$name"
    done
}

start_store() {
    mkdir -p "$DIR/s3"
    start s3 weed mini -dir="$DIR/s3" -ip=127.0.0.1 -ip.bind="$HOST" -bucket=mlflow,dvc -webdav=false -admin.ui=false \
        -master.telemetry=false -s3.port=$((PORT + 2)) -master.port=$((PORT + 3)) -filer.port=$((PORT + 4)) \
        -volume.port=$((PORT + 5)) -admin.port=$((PORT + 6)) -s3.port.grpc=$((PORT + 7)) \
        -master.port.grpc=$((PORT + 8)) -filer.port.grpc=$((PORT + 9)) -volume.port.grpc=$((PORT + 10)) \
        -admin.port.grpc=$((PORT + 11)) -s3.port.iceberg=$((PORT + 12)) -s3.port.lance=$((PORT + 13))
    await s3 "http://127.0.0.1:$((PORT + 2))/healthz"
}

database="postgresql+psycopg2://mlflow:$POSTGRES_PASSWORD@127.0.0.1:$((PORT + 1))"

start_mlflow() {
    (umask 077; printf '%s\n' '[mlflow]' 'default_permission = READ' "database_uri = $database/mlflow_auth" \
        'admin_username = admin' 'auth_cache_ttl_seconds = 60' 'authorization_function = mlflow.server.auth:authenticate_request_basic_auth' > "$DIR/auth.ini")
    export MLFLOW_AUTH_CONFIG_PATH="$DIR/auth.ini" MLFLOW_BACKEND_STORE_URI="$database/mlflow"
    export MLFLOW_S3_ENDPOINT_URL="http://127.0.0.1:$((PORT + 2))" MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
    unset MLFLOW_TRACKING_URI
    start mlflow mlflow server --app-name basic-auth --host "$HOST" --port "$PORT" --workers 1 \
        --artifacts-destination s3://mlflow --allowed-hosts "$TEAM_ALLOWED_HOSTS"
    await mlflow "http://127.0.0.1:$PORT/health"
}

stop() {
    if runs "$1"; then
        kill -- "-$(cat "$DIR/$1.pid")"
        while runs "$1"; do sleep 0.1; done
    fi
    rm -f "$DIR/$1.pid"
}

case "${1:-}" in
    up)
        mkdir -p "$DIR"
        database_runs || runs s3 || runs mlflow || check_ports
        database_runs || start_database
        runs s3 || start_store
        runs mlflow || start_mlflow
        echo "MLflow: http://$HOST:$PORT, user admin; S3: http://$HOST:$((PORT + 2)), buckets mlflow and dvc; data in $DIR"
        ;;
    down)
        stop mlflow
        stop s3
        ! database_runs || as_owner "$BIN/pg_ctl" stop -w -m fast -D "$DIR/postgres" > /dev/null
        ;;
    backup | restore)
        [ -n "${2:-}" ] || fail "usage: team/stack.sh $1 FOLDER"
        database_runs && runs s3 || fail "not running; \`team/stack.sh up\` starts it"
        if [ "$1" = backup ]; then
            (umask 077; mkdir -p "$2")
            for name in mlflow mlflow_auth; do sql pg_dump --format=custom --file="$2/$name.dump" "$name"; done
            copy_buckets get "$2"
        else
            stop mlflow
            for name in mlflow mlflow_auth; do sql pg_restore --clean --if-exists --dbname="$name" "$2/$name.dump"; done
            copy_buckets put "$2"
            start_mlflow
        fi
        ;;
    upgrade)
        database_runs && runs s3 || fail "not running; \`team/stack.sh up\` starts it"
        stop mlflow
        mlflow db upgrade "$database/mlflow" > "$DIR/upgrade.log" 2>&1 || fail "see $DIR/upgrade.log"
        start_mlflow
        ;;
    *) fail "usage: team/stack.sh up | down | backup FOLDER | restore FOLDER | upgrade" ;;
esac
