# shellcheck shell=bash disable=SC2034,SC2154 # variables shared with ../services.sh
# PostgreSQL and a standby of it: finding the programs, files and start for both modes, and what only PostgreSQL can be told.

# postgres_dir PROGRAM…: prints the directory of the newest PostgreSQL that has these programs.
postgres_dir() {
  local dirs=(/usr/lib/postgresql/*/bin) dir program version newest=$((POSTGRES_OLDEST - 1)) found=''
  if has "$1"; then dirs+=("$(dirname "$(readlink -f "$(command -v "$1")")")"); fi
  for dir in "${dirs[@]}"; do
    for program; do [ -x "$dir/$program" ] || continue 2; done
    version=$("$dir/$1" --version | sed -n 's/.*(PostgreSQL) \([0-9]*\).*/\1/p')
    if [ "${version:-0}" -gt "$newest" ]; then newest=$version found=$dir; fi
  done
  [ -n "$found" ] && printf %s "$found"
}

postgres_server() { postgres_dir initdb postgres psql pg_basebackup pg_isready; }

missing_for_psql() { postgres_dir psql >/dev/null || echo postgresql-client; }

# postgres_conf SERVICE ADDRESS HOME TLS_DIR ROOT: HOME has the configuration, ROOT the data.
postgres_conf() {
  cat <<EOF
cluster_name = '$1'
listen_addresses = '$2'
port = $(postgres_port "$1")
unix_socket_directories = ''
hba_file = '$3/pg_hba.conf'
ident_file = '$3/pg_ident.conf'
password_encryption = 'scram-sha-256'
ssl = on
ssl_cert_file = '$4/server.pem'
ssl_key_file = '$5/server.key'
ssl_ca_file = '$4/ca.pem'
max_connections = 100
shared_buffers = 64MB
# Files in the data directory: what a killed server leaves of them goes with its data.
dynamic_shared_memory_type = mmap
fsync = on
synchronous_commit = on
autovacuum = on
jit = off
# A standby that was down finds what it missed; one that is suspended does not hold up a clean stop.
wal_keep_size = 256MB
wal_sender_timeout = 20s
lc_messages = 'C'
log_destination = 'stderr'
log_min_messages = warning
log_line_prefix = '%m [%p] %q%u@%d '
EOF
}

# The server listens on 127.0.0.1 only, or in a container.
postgres_hba() {
  cat <<EOF
hostssl all         $POSTGRES_CERT_USER  all cert map=clients
host    all         all         all scram-sha-256
host    replication $POSTGRES_ADMIN_USER       all scram-sha-256
EOF
}

# For the single-user mode: one statement a line. Databases are copies of template1, where this runs.
postgres_setup() {
  cat <<EOF
REVOKE CREATE ON SCHEMA public FROM PUBLIC
CREATE ROLE $POSTGRES_USER LOGIN PASSWORD '$POSTGRES_PASSWORD'
CREATE ROLE $POSTGRES_CERT_USER LOGIN
CREATE DATABASE $POSTGRES_DATABASE
CREATE DATABASE $POSTGRES_OTHER_DATABASE
GRANT CREATE ON DATABASE $POSTGRES_DATABASE TO $POSTGRES_USER, $POSTGRES_CERT_USER
EOF
}

# postgres_start SERVICE HOME TLS_DIR ROOT: a script that creates the data and becomes the server.
postgres_start() {
  cat <<EOF
set -e
umask 077
if [ ! -e '$4/server.key' ]; then
  rm -rf '$4/data'
EOF
  if [ "$1" = postgres ]; then
    cat <<EOF
  initdb --pgdata='$4/data' --username='$POSTGRES_ADMIN_USER' --pwfile='$2/password' --auth=scram-sha-256 --encoding=UTF8 \\
    --locale=C.UTF-8 --no-sync --no-instructions
  postgres --single -F -D '$4/data' -c config_file='$2/postgresql.conf' -c exit_on_error=on template1 <'$2/setup.sql' >/dev/null
EOF
  else
    local primary=127.0.0.1
    [ "$MODE" = native ] || primary=postgres
    cat <<EOF
  until pg_isready --quiet --host=$primary --port=$POSTGRES_PORT; do sleep 0.1; done
  pg_basebackup --pgdata='$4/data' --checkpoint=fast --no-sync --write-recovery-conf --dbname="host=$primary \\
    port=$POSTGRES_PORT user=$POSTGRES_ADMIN_USER password=$POSTGRES_ADMIN_PASSWORD sslmode=verify-ca sslrootcert=$3/ca.pem"
EOF
  fi
  cat <<EOF
  # PostgreSQL wants a key that nobody else can read.
  cp '$3/server.key' '$4/server.key'
fi
exec postgres -D '$4/data' -c config_file='$2/postgresql.conf'
EOF
}

# write_postgres SERVICE ADDRESS HOME TLS_DIR ROOT: the directories are those that the server sees.
write_postgres() {
  local folder=$DIR/$1
  mkdir -p "$folder"
  postgres_conf "$@" >"$folder/postgresql.conf"
  postgres_hba >"$folder/pg_hba.conf"
  echo "clients \"regards-relay test client\" $POSTGRES_CERT_USER" >"$folder/pg_ident.conf"
  postgres_setup >"$folder/setup.sql"
  echo "$POSTGRES_ADMIN_PASSWORD" >"$folder/password"
  postgres_start "$1" "$3" "$4" "$5" >"$folder/start.sh"
}

# Prints the port of a PostgreSQL server.
postgres_port() { if [ "$1" = postgres ]; then echo "$POSTGRES_PORT"; else echo "$POSTGRES_STANDBY_PORT"; fi; }

start_postgres() { run_postgres postgres; }

start_postgres-standby() { run_postgres postgres-standby; }

# run_postgres SERVICE: as a user without privileges, since PostgreSQL refuses to run as root.
run_postgres() {
  local home=$DIR/$1 as=() name=nobody
  [ -s "$home/start.sh" ] || write_postgres "$1" 127.0.0.1 "$home" "$DIR/tls" "$home"
  if [ "$(id -u)" = 0 ]; then
    ! id postgres >/dev/null 2>&1 || name=postgres
    as=(setpriv "--reuid=$(id -u $name)" "--regid=$(id -g $name)" --clear-groups)
    chown "$(id -u $name):$(id -g $name)" "$home"
    # mktemp makes directories that only root can enter.
    if ! "${as[@]}" test -x "$DIR"; then
      chgrp "$(id -g $name)" "$DIR"
      chmod g+x "$DIR"
      "${as[@]}" test -x "$DIR" || die "$DIR: the user $name, as whom PostgreSQL runs, can't reach it: choose another directory"
    fi
  fi
  spawn "$home/pid" "$home/log" "${as[@]}" env PATH="$(postgres_server):$PATH" HOME="$home" LC_ALL=C.UTF-8 bash "$home/start.sh"
}

# ask_postgres SERVICE USER PASSWORD DATABASE STATEMENT…: prints what it answers.
ask_postgres() {
  local statement psql=()
  for statement in "${@:5}"; do psql+=(--command "$statement"); done
  PGPASSWORD=$3 timeout "$TELL_SECONDS" "$(postgres_dir psql)/psql" --no-psqlrc --no-password --quiet --tuples-only \
    --no-align --set ON_ERROR_STOP=1 "${psql[@]}" --dbname "host=localhost hostaddr=127.0.0.1 port=$(postgres_port "$1") \
    user=$2 dbname=$4 sslmode=verify-full sslrootcert=$DIR/tls/ca.pem"
}

# ask_postgres_as_admin SERVICE STATEMENT…
ask_postgres_as_admin() { ask_postgres "$1" "$POSTGRES_ADMIN_USER" "$POSTGRES_ADMIN_PASSWORD" postgres "${@:2}"; }

postgres_answers() {
  [ "$(ask_postgres "$1" "$POSTGRES_USER" "$POSTGRES_PASSWORD" "$POSTGRES_DATABASE" 'SELECT 1' 2>/dev/null)" = 1 ]
}

ready_postgres() { postgres_answers postgres; }

ready_postgres-standby() { postgres_answers postgres-standby; }

# After a SIGKILL, removes what only the next start would: a small segment of shared memory of System V, and the lock file. With
# that file the server would not start as long as the killed process is a zombie; some containers have nobody who reaps it.
unlock_postgres() {
  local lock=$DIR/$1/data/postmaster.pid pid id users
  [ -r "$lock" ] || return 0
  pid=$(sed -n 1p "$lock")
  read -r _ id < <(sed -n 7p "$lock") || id=''
  users=$(awk -v id="$id" -v pid="$pid" '$2 == id && $5 == pid { print $7 }' /proc/sysvipc/shm 2>/dev/null) || users=''
  if [ "${users:-0}" -gt 0 ]; then
    say "processes of $1 survived SIGKILL"
    return
  fi
  if [ -n "$users" ]; then ipcrm --shmem-id "$id" || true; fi
  rm -f "$lock"
}

do_terminate() {
  # The function waits up to so many milliseconds, and warns of a backend that has ended by itself.
  quietly ask_postgres_as_admin "$1" "SELECT pg_terminate_backend(pid, ${TELL_SECONDS}000) FROM pg_stat_activity
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
}

do_promote() {
  [ "$(ask_postgres_as_admin "$1" "SELECT pg_promote(true, $TELL_SECONDS)")" = t ] || die "$1 was not promoted"
}

do_synchronous() { standby_names '"postgres-standby"' "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'" 1; }

do_asynchronous() { standby_names '' "SELECT current_setting('synchronous_standby_names') = ''" t; }

# standby_names VALUE QUESTION ANSWER: sets the standbys for which a commit waits; returns once the server gives this answer.
standby_names() {
  local deadline=$((SECONDS + TELL_SECONDS))
  quietly ask_postgres_as_admin postgres "ALTER SYSTEM SET synchronous_standby_names = '$1'" 'SELECT pg_reload_conf()'
  until [ "$(ask_postgres_as_admin postgres "$2")" = "$3" ]; do
    [ "$SECONDS" -lt "$deadline" ] || die "postgres-standby is not connected to postgres, or the setting was not read"
    sleep 0.1
  done
}
