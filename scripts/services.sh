#!/usr/bin/env bash
# RabbitMQ, Apache Kafka, a schema registry (Apicurio), PostgreSQL and a Kerberos realm (MIT) for the tests: real servers on free
# ports of 127.0.0.1, with throw-away data.
#
#   services.sh run [--] COMMAND…            kdc, rabbitmq, kafka, registry and postgres up, COMMAND with their env, all down
#                                            again; exits as COMMAND
#   services.sh up DIR [SERVICE…]            starts them (default kdc rabbitmq kafka registry postgres) with everything under
#                                            DIR; writes DIR/env
#   services.sh down DIR                     stops them and removes DIR; succeeds if parts of it are gone
#   services.sh stop|start|kill|pause|resume DIR SERVICE
#                                            clean stop | again, same data and ports | SIGKILL | SIGSTOP | SIGCONT
#   services.sh alarm|calm DIR rabbitmq      sets | clears a memory alarm, which blocks publishers
#   services.sh plain DIR rabbitmq           lets clients log in by user name and password only, not by certificate
#   services.sh login DIR kafka USER PASSWORD
#                                            creates a SCRAM-SHA-512 user, or changes its password
#   services.sh terminate DIR postgres|postgres-standby
#                                            ends the connections of its clients
#   services.sh synchronous|asynchronous DIR postgres
#                                            commits wait for the standby | do not, as at the start
#   services.sh promote DIR postgres-standby
#                                            makes it a primary
#   services.sh install                      installs what `up` needs with apt-get, Maven and pip, or says what to do
#
# SERVICE is rabbitmq, kafka, registry, or registry-auth: a registry that asks for a token with one of the roles sr-readonly,
# sr-developer and sr-admin in its claim `roles`. DIR/tls/token.key signs tokens; Kafka (OAUTHBEARER, audience kafka),
# RabbitMQ (audience rabbitmq) and registry-auth accept them. SERVICE kdc is a key distribution center with the principals of
# PRINCIPALS; with it Kafka accepts their logins (GSSAPI, service kafka). DIR/kdc has krb5.conf and a keytab of each. SERVICE
# postgres is PostgreSQL, with TLS for those who ask for it; postgres-standby, beside it, a standby by streaming replication.
#
# Uses containers if a docker engine with compose answers, native processes (Linux) otherwise. kdc is a process in any case.
# REGARDS_RELAY_SERVICES=native|docker overrides the choice.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KAFKA_VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$SCRIPTS/kafka/pom.xml")
RABBITMQ_IMAGE=rabbitmq:4.1-management
POSTGRES_IMAGE=postgres:17
POSTGRES_OLDEST=14                               # of the native ones
REGISTRY_VERSION=2.6.13.Final                    # newer ones need Java 21
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/regards-relay
KAFKA_HOME=$CACHE/kafka-$KAFKA_VERSION
REGISTRY_HOME=$CACHE/apicurio-$REGISTRY_VERSION
CONNECT_HOME=$CACHE/connect-$KAFKA_VERSION-$(cksum <"$SCRIPTS/readers/pom.xml" | cut -d ' ' -f 1)
PYTHON_HOME=$CACHE/readers-$(cksum <"$SCRIPTS/readers/requirements.txt" | cut -d ' ' -f 1)
TEMP=$(cd "${TMPDIR:-/tmp}" && pwd)
PORT_CLAIMS=$TEMP/regards-relay-ports.$(id -u)   # PORT -> DIR, so that runs side by side take different ones
MARKER=regards-relay-services                    # a directory without this file in it is not ours to remove
READY_SECONDS=120                                # for one service to answer
STOP_SECONDS=45                                  # for one service to end after SIGTERM
TELL_SECONDS=30                                  # to be told something: that starts a whole Erlang beside all else that runs

AMQP_USER=guest AMQP_PASSWORD=guest
MEMORY_LIMIT=1GB                                 # of RabbitMQ, before it blocks publishers
KAFKA_USER=relay KAFKA_PASSWORD=relay-secret
POSTGRES_ADMIN_USER=admin POSTGRES_ADMIN_PASSWORD=admin-secret
# POSTGRES_USER may log in and create schemas in the first database, nothing else. POSTGRES_CERT_USER has the same rights and logs
# in by the client certificate.
POSTGRES_USER=relay POSTGRES_PASSWORD=relay-secret POSTGRES_CERT_USER=relay_cert
POSTGRES_DATABASE=relay POSTGRES_OTHER_DATABASE=other
REALM=RELAY.TEST
# Besides the broker's: users; users whose tickets end after some seconds; one whose keytab is older than the one in `renewed`.
PRINCIPALS='relay other short brief stale'
SHORT_LIFE='10 seconds'
KAFKA_CLUSTER_ID=cmVnYXJkcy1yZWxheQAAAA

say() { printf 'services: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,31s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
# Shows the output of a command only if it failed.
quietly() {
  local said
  said=$("$@" 2>&1) || die "$1 failed:"$'\n'"$said"
}
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command under a lock that all runs of this user share.
locked() {
  mkdir -p "$CACHE"
  if has flock; then ( flock 9; "$@" ) 9>"$CACHE/lock"; else "$@"; fi
}

# shellcheck source=apt.sh
. "$SCRIPTS/apt.sh"
# shellcheck source=services/process.sh
. "$SCRIPTS/services/process.sh"
# shellcheck source=services/install.sh
. "$SCRIPTS/services/install.sh"
# shellcheck source=services/files.sh
. "$SCRIPTS/services/files.sh"
# shellcheck source=services/native.sh
. "$SCRIPTS/services/native.sh"
# shellcheck source=services/postgres.sh
. "$SCRIPTS/services/postgres.sh"
# shellcheck source=services/docker.sh
. "$SCRIPTS/services/docker.sh"

# ----------------------------------------------------------------------------------------------------------- one service

is_process() { [ "$MODE" = native ] || [ "$1" = kdc ]; }

running() {
  if is_process "$1"; then alive "$DIR/$1/pid"; else [ -n "$(docker_compose ps --quiet --status running "$1")" ]; fi
}

service_log() {
  if is_process "$1"; then tail -n 40 "$DIR/$1/log"; else docker_compose logs --no-color --tail 40 "$1"; fi
}

# http_ok PORT PATH [HEADER]: does it answer 200 there?
http_ok() (
  exec 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
  printf 'GET %s HTTP/1.0\r\n%s\r\n' "$2" "${3:+$3$'\r\n'}" >&3
  IFS= read -r -t 5 line <&3 && [[ $line == *' 200 '* ]]
) 2>/dev/null

ready_rabbitmq() {
  local check login
  login="Authorization: Basic $(printf '%s:%s' "$AMQP_USER" "$AMQP_PASSWORD" | openssl base64 -A)"
  for check in "port-listener/$AMQP_PORT" "port-listener/$AMQPS_PORT" virtual-hosts; do
    http_ok "$MANAGEMENT_PORT" "/api/health/checks/$check" "$login" || return 1
  done
}

ready_kafka() {
  if [ "$MODE" = native ]; then
    grep -q 'Kafka Server started' < <(tail -c "+$(($(<"$DIR/kafka/log.before") + 1))" "$DIR/kafka/log") || return 1
  else
    docker_compose exec -T kafka /opt/kafka/bin/kafka-broker-api-versions.sh \
      --bootstrap-server "127.0.0.1:$KAFKA_PORT" >/dev/null 2>&1 || return 1
  fi
  open_port "$KAFKA_PORT" && open_port "$KAFKA_SASL_SSL_PORT"
}

ready_kdc() { open_port "$KDC_PORT"; }

ready_registry() { http_ok "$REGISTRY_PORT" /health/ready; }

ready_registry-auth() { http_ok "$REGISTRY_AUTH_PORT" /health/ready; }

wait_ready() {
  local deadline=$((SECONDS + READY_SECONDS))
  until "ready_$1"; do
    if ! running "$1" || [ "$SECONDS" -ge "$deadline" ]; then
      say "$1 did not get ready within $READY_SECONDS s, or ended; the end of its log:"
      service_log "$1" >&2 || true
      return 1
    fi
    sleep 0.1
  done
}

do_start() {
  if ! running "$1"; then
    if is_process "$1"; then "start_$1"; else quietly docker_compose start "$1"; fi
  fi
  wait_ready "$1"
}

do_stop() {
  # A paused process would not act on the signal.
  if ! is_process "$1"; then
    docker_compose unpause "$1" >/dev/null 2>&1 || true
    quietly docker_compose stop --timeout "$STOP_SECONDS" "$1"
    return
  fi
  signal_all "$DIR/$1/pid" CONT || return 0
  local how=TERM
  case $1 in
    rabbitmq) spare_rabbitmq_the_wait ;;
    postgres*) how=INT ;;   # with SIGTERM it waits until its clients have left
  esac
  signal "$DIR/$1/pid" "$how" || true
  wait_gone "$DIR/$1/pid" "$STOP_SECONDS" || die "$1 did not stop within $STOP_SECONDS s"
  rm -f "$DIR/$1/pid"
}

do_kill() {
  if is_process "$1"; then kill_process "$1"; else quietly docker_compose kill "$1"; fi
}

kill_process() {
  kill_now "$DIR/$1/pid"
  if [[ $1 == postgres* ]]; then unlock_postgres "$1"; fi
}

do_pause() {
  if ! is_process "$1"; then quietly docker_compose pause "$1"; return; fi
  signal_all "$DIR/$1/pid" STOP || die "$1 is not running"
}

do_resume() {
  if ! is_process "$1"; then quietly docker_compose unpause "$1"; return; fi
  signal_all "$DIR/$1/pid" CONT || die "$1 is not running"
}

do_login() {
  local tool=(kafka.admin.ConfigCommand --bootstrap-server "127.0.0.1:$KAFKA_PORT" --alter
    --add-config "SCRAM-SHA-512=[password=$2]" --entity-type users --entity-name "$1")
  if [ "$MODE" = docker ]; then
    quietly docker_compose exec -T kafka /opt/kafka/bin/kafka-configs.sh "${tool[@]:1}"
  else
    quietly "$(java_command)" -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$KAFKA_HOME/*" "${tool[@]}"
  fi
}

# The limit counts as reached, whatever is used.
do_alarm() { memory_limit_rabbitmq 0.00001; }

do_calm() { memory_limit_rabbitmq absolute "$MEMORY_LIMIT"; }

do_plain() {
  local offered="rabbit, auth_mechanisms, ['PLAIN']"
  if [ "$MODE" = docker ]; then
    quietly docker_compose exec -T rabbitmq rabbitmqctl eval "application:set_env($offered)."
  else
    tell_rabbitmq "application, set_env, [$offered]" || die "rabbitmq does not answer"
  fi
}

memory_limit_rabbitmq() {
  if [ "$MODE" = docker ]; then
    quietly docker_compose exec -T rabbitmq rabbitmqctl set_vm_memory_high_watermark "$@"
  elif [ "$1" = absolute ]; then
    tell_rabbitmq "vm_memory_monitor, set_vm_memory_high_watermark, [{absolute, \"$2\"}]" || die "rabbitmq does not answer"
  else
    tell_rabbitmq "vm_memory_monitor, set_vm_memory_high_watermark, [$1]" || die "rabbitmq does not answer"
  fi
}

# ------------------------------------------------------------------------------------------------------------ commands

DEFAULT_SERVICES='kdc rabbitmq kafka registry postgres'
ALL_SERVICES="$DEFAULT_SERVICES registry-auth postgres-standby"
STATE=(MODE SERVICES AMQP_PORT AMQPS_PORT MANAGEMENT_PORT DIST_PORT EPMD_PORT KAFKA_PORT KAFKA_SASL_SSL_PORT
  KAFKA_CONTROLLER_PORT REGISTRY_PORT REGISTRY_AUTH_PORT KDC_PORT POSTGRES_PORT POSTGRES_STANDBY_PORT)

set_dir() {
  [ -n "${1:-}" ] || usage
  case $1 in /*) DIR=$1 ;; *) DIR=$PWD/$1 ;; esac
  DIR=${DIR%/}
  [[ $DIR =~ ^[A-Za-z0-9/._+-]+$ ]] || die "$DIR: choose a directory without spaces or special characters in its path"
}

load_state() {
  if [ ! -f "$DIR/$MARKER" ] || [ ! -s "$DIR/state" ]; then die "$DIR: no services were started there"; fi
  # shellcheck disable=SC1091
  . "$DIR/state"
}

choose_mode() {
  MODE=${REGARDS_RELAY_SERVICES:-}
  case $MODE in
    native | docker) ;;
    '') if docker_answers; then MODE=docker; else MODE=native; fi ;;
    *) die "REGARDS_RELAY_SERVICES is native or docker, not $MODE" ;;
  esac
}

install_all() {
  choose_mode
  if [ "$MODE" = native ]; then
    installed || install_native
  else
    docker_answers || die "no docker engine with compose answers"
    has openssl || die "missing: openssl"
  fi
  # The readers, psql and the key distribution center are processes of this machine in both modes.
  readers_installed || install_readers
  [ -z "$(missing_for_psql)" ] || die "missing: psql of PostgreSQL $POSTGRES_OLDEST or later ($(missing_for_psql) on Debian)"
  [ -z "$(missing_for_kdc)" ] || die "missing for Kerberos, by the names on Debian: $(missing_for_kdc | xargs)"
}

# Starts SERVICES under DIR, which this run has claimed.
up() {
  local name port
  install_all
  for name in "${STATE[@]}"; do
    if [[ $name == *_PORT ]]; then
      port=$(free_port)
      printf -v "$name" %s "$port"
    fi
  done
  for name in "${STATE[@]}"; do printf '%s=%q\n' "$name" "${!name}"; done >"$DIR/state"
  make_certificates
  make_token_key
  # Kafka reads a keytab of the realm.
  if with_kdc; then make_realm; fi
  if [ "$MODE" = docker ]; then
    write_compose
    if with_kdc; then start_kdc; fi
    # shellcheck disable=SC2086 # a list
    quietly docker_compose up --detach ${SERVICES/kdc/}
  else
    for name in $SERVICES; do "start_$name"; done
  fi
  for name in $SERVICES; do wait_ready "$name"; done
  write_env
}

# The data is removed, so the services need no clean stop.
down() {
  [ -e "$DIR" ] || { release_ports; return 0; }
  if [ ! -f "$DIR/$MARKER" ]; then
    rmdir "$DIR" 2>/dev/null || die "$DIR: not made by services.sh, so not removed"
    return 0
  fi
  if [ -f "$DIR/compose.yaml" ]; then
    docker_compose down --volumes --timeout 1 >/dev/null 2>&1 || say "docker compose down failed for $DIR"
  fi
  local name
  for name in $ALL_SERVICES; do
    if [ -e "$DIR/$name/pid" ]; then kill_process "$name"; fi
  done
  if [ -e "$DIR/rabbitmq/epmd.pid" ]; then kill_now "$DIR/rabbitmq/epmd.pid"; fi
  rm -rf "$DIR"
  release_ports
}

# `up`; leaves nothing behind when it fails.
up_in_dir() {
  local name
  for name; do
    [[ " $ALL_SERVICES " == *" $name "* ]] || usage
  done
  SERVICES=${*:-$DEFAULT_SERVICES}
  [[ " $SERVICES " != *' postgres-standby '* || " $SERVICES " == *' postgres '* ]] || die "postgres-standby needs postgres"
  mkdir -p "$DIR"
  [ -z "$(ls -A "$DIR")" ] || die "$DIR is not empty; if services were started there before: services.sh down $DIR"
  trap 'rc=$?; trap "" INT TERM HUP; down; exit $rc' EXIT
  : >"$DIR/$MARKER"
  up
  trap - EXIT
}

# Ends the interrupted command of `run` and its child processes.
end_command() {
  local pids pid left
  pids=$(descendants "$1" | xargs)
  # shellcheck disable=SC2086 # a list
  [ -z "$pids" ] || kill -s TERM $pids 2>/dev/null || true
  for _ in $(seq 100); do
    left=''
    for pid in $pids; do [ -z "$(started_at "$pid")" ] || left=1; done
    [ -n "$left" ] || return 0
    sleep 0.1
  done
  # shellcheck disable=SC2086
  kill -s KILL $pids 2>/dev/null || true
}

command=''
run() {
  [ "${1:-}" != -- ] || shift
  [ $# -gt 0 ] || usage
  local rc=0
  busy=1
  set_dir "$(mktemp -d "$TEMP/regards-relay.XXXXXX")"
  : >"$DIR/$MARKER"
  trap 'rc=$?; trap "" INT TERM HUP; [ -z "$command" ] || end_command "$command"; down; exit $rc' EXIT
  busy=''
  [ -z "$pending" ] || exit "$pending"
  SERVICES=$DEFAULT_SERVICES
  up
  # shellcheck disable=SC1091
  . "$DIR/env"
  # In the background, so that a signal is acted on at once; it keeps the terminal and receives Ctrl-C itself.
  (trap - INT QUIT TERM HUP EXIT; exec "$@") <&0 &
  command=$!
  wait "$command" || rc=$?
  command=''
  exit "$rc"
}

umask 022
{ : <&0; } 2>/dev/null || exec </dev/null
verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
  run) run "$@" ;;
  install) install_all ;;
  up)
    set_dir "${1:-}"
    shift
    up_in_dir "$@"
    ;;
  down)
    set_dir "${1:-}"
    down
    ;;
  stop | start | kill | pause | resume | alarm | calm | plain | terminate | synchronous | asynchronous | promote)
    set_dir "${1:-}"
    load_state
    case $verb:${2:-} in
      alarm:rabbitmq | calm:rabbitmq | plain:rabbitmq | terminate:postgres | terminate:postgres-standby) ;;
      synchronous:postgres | asynchronous:postgres | promote:postgres-standby) ;;
      alarm:* | calm:* | plain:* | terminate:* | synchronous:* | asynchronous:* | promote:*) usage ;;
    esac
    [[ " $SERVICES " == *" ${2:-} "* ]] || die "$DIR has: $SERVICES"
    "do_$verb" "$2"
    ;;
  login)
    set_dir "${1:-}"
    load_state
    if [ $# -ne 4 ] || [ "$2" != kafka ]; then usage; fi
    do_login "$3" "$4"
    ;;
  *) usage ;;
esac
