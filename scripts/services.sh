#!/usr/bin/env bash
# RabbitMQ and Apache Kafka for the tests: real brokers on free ports of 127.0.0.1, with throw-away data.
#
#   services.sh run [--] COMMAND…            both brokers up, COMMAND with their env, all down again; exits as COMMAND
#   services.sh up DIR [rabbitmq] [kafka]    starts them (default both) with everything under DIR; writes DIR/env
#   services.sh down DIR                     ends them and removes DIR; fine when half of it is gone already
#   services.sh stop|start|kill|pause|resume DIR rabbitmq|kafka
#                                            SIGTERM and wait | again, same data and ports | SIGKILL | SIGSTOP | SIGCONT
#   services.sh install                      what `up` needs, by apt-get and Maven; says what to do where it can't
#
# Where a docker engine with compose answers, containers are used; else native processes (Linux).
# REGARDS_RELAY_SERVICES=native|docker decides instead.
set -euo pipefail

SCRIPTS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
KAFKA_VERSION=$(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$SCRIPTS/kafka/pom.xml")
RABBITMQ_IMAGE=rabbitmq:4.1-management
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/regards-relay
KAFKA_HOME=$CACHE/kafka-$KAFKA_VERSION
TEMP=$(cd "${TMPDIR:-/tmp}" && pwd)
PORT_CLAIMS=$TEMP/regards-relay-ports.$(id -u)   # PORT -> DIR, so that runs side by side take different ones
MARKER=regards-relay-services                    # a directory without this file in it is not ours to remove
READY_SECONDS=90                                 # for one broker to answer
STOP_SECONDS=45                                  # for one broker to end after SIGTERM

AMQP_USER=guest AMQP_PASSWORD=guest
KAFKA_USER=relay KAFKA_PASSWORD=relay-secret
KAFKA_CLUSTER_ID=cmVnYXJkcy1yZWxheQAAAA

say() { printf 'services: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,14s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
has() { command -v "$1" >/dev/null 2>&1; }

# Runs a command under a lock that all runs of this user share.
locked() {
  mkdir -p "$CACHE"
  if has flock; then ( flock 9; "$@" ) 9>"$CACHE/lock"; else "$@"; fi
}

# ---------------------------------------------------------------------------------------------- signals and processes

# A signal that comes while a process is being started waits until its process id is on disk.
busy='' pending=''
on_signal() {
  pending=$1
  [ -n "$busy" ] || exit "$1"
}
trap 'on_signal 130' INT
trap 'on_signal 143' TERM
trap 'on_signal 129' HUP

# When the process with this id was started; empty when it is gone or a zombie. Ids are used again, (id, start) are not.
started_at() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  # shellcheck disable=SC2086 # the fields behind the name in brackets, split on purpose
  set -- ${stat##*) }
  [ "$1" = Z ] || printf '%s' "${20}"
}

# spawn PIDFILE LOG COMMAND…: a session of its own, so that a terminal's Ctrl-C doesn't reach it.
spawn() {
  local pidfile=$1 log=$2
  shift 2
  busy=1
  setsid "$@" </dev/null >>"$log" 2>&1 9>&- &
  echo "$! $(started_at $!)" >"$pidfile"
  disown
  busy=''
  [ -z "$pending" ] || exit "$pending"
}

alive() {
  local pid start
  read -r pid start 2>/dev/null <"$1" || return 1
  [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ]
}

# signal PIDFILE SIGNAL: to the process and those it started.
signal() {
  local pid
  alive "$1" || return 1
  read -r pid _ <"$1"
  kill -s "$2" -- "-$pid" 2>/dev/null || kill -s "$2" "$pid" 2>/dev/null
}

wait_gone() {
  local tries=$(($2 * 20))
  while alive "$1"; do
    [ $((tries--)) -gt 0 ] || return 1
    sleep 0.05
  done
}

kill_now() {
  if signal "$1" KILL; then wait_gone "$1" 10 || say "process $(cat "$1") survived SIGKILL"; fi
  rm -f "$1"
}

# ------------------------------------------------------------------------------------------------------------- install

# The RabbitMQ start script itself: Debian's wrapper in /usr/sbin insists on its own user and directories.
rabbitmq_server() {
  local path
  for path in /usr/lib/rabbitmq/bin/rabbitmq-server "$(command -v rabbitmq-server || true)"; do
    if [ -x "$path" ]; then readlink -f "$path"; return; fi
  done
  return 1
}

# A Java of at least 17.
java_command() {
  local path version
  for path in "${JAVA_HOME:+$JAVA_HOME/bin/java}" "$(command -v java || true)" /usr/lib/jvm/*/bin/java; do
    if [ -z "$path" ] || [ ! -x "$path" ]; then continue; fi
    version=$("$path" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    if [ "${version:-0}" -ge 17 ]; then printf '%s' "$path"; return; fi
  done
  return 1
}

missing_packages() {
  has openssl || echo openssl
  has flock && has setsid || echo util-linux
  rabbitmq_server >/dev/null || echo rabbitmq-server
  java_command >/dev/null || echo java
  [ -d "$KAFKA_HOME" ] || has mvn || echo maven
}

apt_install() {
  local packages policy=/usr/sbin/policy-rc.d
  mapfile -t packages < <(missing_packages)
  [ "${#packages[@]}" -gt 0 ] || return 0
  say "installing ${packages[*]}"
  apt-get update -qq
  if [[ " ${packages[*]} " == *' java '* ]]; then
    local java=openjdk-17-jre-headless
    apt-cache show "$java" >/dev/null 2>&1 || java=default-jre-headless
    packages=("${packages[@]/#java/$java}")
  fi
  (
    # Packages must not start brokers of their own, neither now nor at the next boot.
    if [ ! -e $policy ]; then
      trap 'rm -f $policy' EXIT
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod 755 $policy
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  )
  if [[ " ${packages[*]} " == *' rabbitmq-server '* ]] && has systemctl; then
    systemctl disable rabbitmq-server.service epmd.service epmd.socket >/dev/null 2>&1 || true
  fi
}

kafka_download() {
  [ ! -d "$KAFKA_HOME" ] || return 0
  say "fetching Apache Kafka $KAFKA_VERSION with Maven into $KAFKA_HOME"
  local part
  part=$(mktemp -d "$CACHE/kafka-part.XXXXXX")
  if mvn -B -q -f "$SCRIPTS/kafka/pom.xml" dependency:copy-dependencies -DoutputDirectory="$part" </dev/null >&2; then
    chmod 755 "$part"
    mv -T "$part" "$KAFKA_HOME"
  else
    rm -rf "$part"
    die "Maven could not fetch Apache Kafka: see above"
  fi
}

install_native() {
  local missing
  [ "$(uname -s)" = Linux ] || die "native brokers need Linux; start a docker engine with compose instead"
  missing=$(missing_packages | xargs)
  if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && has apt-get; then
      locked apt_install
      missing=$(missing_packages | xargs)
    fi
    [ -z "$missing" ] || die "missing: $missing. Install them (java: a JRE of at least 17;" \
      "on Debian or Ubuntu: apt-get install --no-install-recommends ${missing/java/openjdk-17-jre-headless})," \
      "or start a docker engine with compose"
  fi
  locked kafka_download
}

installed() { [ -d "$KAFKA_HOME" ] && [ -z "$(missing_packages)" ]; }

# ---------------------------------------------------------------------------------------------- ports and certificates

open_port() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Prints a free port below those the system gives to clients, and claims it for DIR.
free_port() {
  local port claim first_ephemeral=32768
  [ ! -r /proc/sys/net/ipv4/ip_local_port_range ] || read -r first_ephemeral _ </proc/sys/net/ipv4/ip_local_port_range
  [ "$first_ephemeral" -gt 21000 ] || first_ephemeral=32768
  [ -d "$PORT_CLAIMS" ] || mkdir -m 700 "$PORT_CLAIMS" 2>/dev/null || true
  for _ in $(seq 200); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % (first_ephemeral - 20000)))
    claim=$PORT_CLAIMS/$port
    if [ -L "$claim" ] && [ ! -e "$claim" ]; then rm -f "$claim"; fi   # its DIR is gone
    ln -s "$DIR" "$claim" 2>/dev/null || continue
    if ! open_port "$port"; then echo "$port"; return; fi
    rm -f "$claim"
  done
  die "found no free port between 20000 and $first_ephemeral"
}

release_ports() {
  local claim
  for claim in "$PORT_CLAIMS"/*; do
    if [ "$(readlink "$claim" 2>/dev/null)" = "$DIR" ]; then rm -f "$claim"; fi
  done
  rmdir "$PORT_CLAIMS" 2>/dev/null || true
}

# A throw-away authority, a certificate for localhost and one for a client.
make_certificates() {
  local tls=$DIR/tls name
  mkdir -p "$tls"
  cat >"$tls/openssl.cnf" <<'EOF'
[req]
distinguished_name = dn
[dn]
[ca]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
[client]
basicConstraints = CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectAltName = DNS:relay
EOF
  (
    cd "$tls"
    new_key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config openssl.cnf)
    openssl req -x509 "${new_key[@]}" -extensions ca -days 30 -subj '/CN=regards-relay test authority' \
      -keyout ca.key -out ca.pem
    for name in server client; do
      openssl req "${new_key[@]}" -subj "/CN=regards-relay test $name" -keyout $name.key -out $name.csr
      openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile openssl.cnf -extensions $name -out $name.pem
    done
    cat server.key server.pem >server.both.pem
    # Containers read these as other users; whoever made DIR decides who gets that far.
    chmod 755 . && chmod 644 -- *
  ) 2>"$DIR/openssl.log" || die "openssl could not make certificates: $(cat "$DIR/openssl.log")"
}

# ------------------------------------------------------------------------------------------------------- configuration

# rabbitmq_conf ADDRESS TLS_DIR
rabbitmq_conf() {
  cat <<EOF
listeners.tcp.1 = $1:$AMQP_PORT
listeners.ssl.1 = $1:$AMQPS_PORT
ssl_options.cacertfile = $2/ca.pem
ssl_options.certfile = $2/server.pem
ssl_options.keyfile = $2/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
management.tcp.ip = $1
management.tcp.port = $MANAGEMENT_PORT
default_user = $AMQP_USER
default_pass = $AMQP_PASSWORD
loopback_users = none
# The management API shows queue depths of half a second ago, not of five.
collect_statistics_interval = 500
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
num_acceptors.tcp = 2
num_acceptors.ssl = 2
log.console = true
log.console.level = info
log.file = false
EOF
}

# kafka_properties ADDRESS TLS_DIR DATA_DIR
kafka_properties() {
  local module=org.apache.kafka.common.security
  cat <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$KAFKA_CONTROLLER_PORT
listeners=PLAINTEXT://$1:$KAFKA_PORT,SASL_SSL://$1:$KAFKA_SASL_SSL_PORT,CONTROLLER://127.0.0.1:$KAFKA_CONTROLLER_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:$KAFKA_PORT,SASL_SSL://127.0.0.1:$KAFKA_SASL_SSL_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
log.dirs=$3
ssl.keystore.type=PEM
ssl.keystore.location=$2/server.both.pem
ssl.truststore.type=PEM
ssl.truststore.location=$2/ca.pem
ssl.client.auth=requested
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_$KAFKA_USER="$KAFKA_PASSWORD";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=$module.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=$module.scram.ScramLoginModule required;
auto.create.topics.enable=false
num.partitions=1
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# Small, and quick to start and to stop: there is nobody to hand the partitions over to.
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=2097152
controlled.shutdown.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
EOF
}

scram_options() {
  local mechanism
  for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
    printf '%s\n' --add-scram "$mechanism=[name=$KAFKA_USER,password=$KAFKA_PASSWORD]"
  done
}

# What the tests read, and what the other verbs need to know again.
write_env() {
  local name
  {
    printf 'export REGARDS_RELAY_TEST_DIR=%s\n' "$DIR"
    printf 'export REGARDS_RELAY_TEST_SERVICES=%s\n' "$SCRIPTS/services.sh"
    for name in CA=tls/ca.pem CLIENT_CERT=tls/client.pem CLIENT_KEY=tls/client.key; do
      printf 'export REGARDS_RELAY_TEST_%s=%s\n' "${name%=*}" "$DIR/${name#*=}"
    done
    if [[ " $SERVICES " == *' rabbitmq '* ]]; then
      for name in AMQP_PORT AMQPS_PORT MANAGEMENT_PORT AMQP_USER AMQP_PASSWORD; do
        printf 'export REGARDS_RELAY_TEST_%s=%s\n' "$name" "${!name}"
      done
    fi
    if [[ " $SERVICES " == *' kafka '* ]]; then
      for name in KAFKA_PORT KAFKA_SASL_SSL_PORT KAFKA_USER KAFKA_PASSWORD; do
        printf 'export REGARDS_RELAY_TEST_%s=%s\n' "$name" "${!name}"
      done
    fi
  } >"$DIR/env"
}

# ----------------------------------------------------------------------------------------------------- native services

# The node is called the same everywhere: its own epmd, on its own port, is all it can be found through.
start_rabbitmq() {
  local home=$DIR/rabbitmq epmd erl_args
  mkdir -p "$home"
  if [ ! -s "$home/.erlang.cookie" ]; then
    openssl rand -hex 16 >"$home/.erlang.cookie"
    chmod 600 "$home/.erlang.cookie"
    rabbitmq_conf 127.0.0.1 "$DIR/tls" >"$home/rabbitmq.conf"
    echo '[rabbitmq_management].' >"$home/enabled_plugins"
  fi
  epmd=$(command -v epmd || find /usr/lib/erlang /usr/local/lib/erlang -name epmd -type f 2>/dev/null | head -n 1)
  [ -n "$epmd" ] || die "found no epmd: is Erlang installed?"
  alive "$home/epmd.pid" || spawn "$home/epmd.pid" "$home/log" "$epmd" -address 127.0.0.1 -port "$EPMD_PORT"
  # One scheduler of each kind, no busy waiting; nothing listens beyond 127.0.0.1.
  erl_args='+S 1:1 +SDcpu 1:1 +SDio 4 +A 4 +sbwt none +sbwtdcpu none +sbwtdio none'
  erl_args+=' -kernel inet_dist_use_interface {127,0,0,1}'
  spawn "$home/pid" "$home/log" env -u NOTIFY_SOCKET \
    HOME="$home" LANG=C.UTF-8 RUNNING_UNDER_SYSTEMD=true \
    ERL_EPMD_PORT="$EPMD_PORT" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP=/dev/null \
    RABBITMQ_NODENAME=relay@localhost RABBITMQ_DIST_PORT="$DIST_PORT" \
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf" RABBITMQ_CONFIG_FILES=/dev/null \
    RABBITMQ_ADVANCED_CONFIG_FILE="$home/no-advanced.config" RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" \
    RABBITMQ_MNESIA_BASE="$home/data" RABBITMQ_LOG_BASE="$home/logs" RABBITMQ_PID_FILE="$home/rabbitmq.pid" \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$erl_args" \
    "$(rabbitmq_server)"
}

# While it stops, the statistics handler of RabbitMQ 3's management plugin waits 5 s for an answer that can't come. Taking
# it out first saves them; if that fails, the stop is only slower.
spare_rabbitmq_the_wait() {
  HOME=$DIR/rabbitmq ERL_EPMD_PORT=$EPMD_PORT timeout 5 erl -noinput -hidden -sname "stop$$@localhost" \
    -kernel inet_dist_use_interface '{127,0,0,1}' \
    -eval "rpc:call('relay@localhost', gen_event, delete_handler, [rabbit_event, rabbit_mgmt_db_handler, []]), halt()." \
    >/dev/null 2>&1 || true
}

start_kafka() {
  local home=$DIR/kafka java options scram
  java=$(java_command)
  mkdir -p "$home"
  options=(-Xms128m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.awt.headless=true
    -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"
    -cp "$KAFKA_HOME/*")
  if [ ! -s "$home/server.properties" ]; then
    kafka_properties 127.0.0.1 "$DIR/tls" "$home/data" >"$home/server.properties"
    mapfile -t scram < <(scram_options)
    "$java" "${options[@]}" kafka.tools.StorageTool format --cluster-id "$KAFKA_CLUSTER_ID" \
      --config "$home/server.properties" "${scram[@]}" >>"$home/log" 2>&1 || { tail -n 30 "$home/log" >&2; die "kafka: could not format"; }
  fi
  printf '%s\n' "$(wc -c <"$home/log")" >"$home/log.before"
  spawn "$home/pid" "$home/log" "$java" "${options[@]}" kafka.Kafka "$home/server.properties"
}

# http_ok PATH: does the management API answer 200?
http_ok() (
  exec 3<>"/dev/tcp/127.0.0.1/$MANAGEMENT_PORT" || exit 1
  printf 'GET %s HTTP/1.0\r\nAuthorization: Basic %s\r\n\r\n' "$1" \
    "$(printf '%s:%s' "$AMQP_USER" "$AMQP_PASSWORD" | openssl base64 -A)" >&3
  IFS= read -r -t 5 line <&3 && [[ $line == *' 200 '* ]]
) 2>/dev/null

ready_rabbitmq() {
  http_ok "/api/health/checks/port-listener/$AMQP_PORT" && http_ok "/api/health/checks/port-listener/$AMQPS_PORT" &&
    http_ok /api/health/checks/virtual-hosts
}

ready_kafka() {
  if [ "$MODE" = native ]; then
    tail -c "+$(($(<"$DIR/kafka/log.before") + 1))" "$DIR/kafka/log" | grep -q 'Kafka Server started' || return 1
  else
    docker_compose exec -T kafka /opt/kafka/bin/kafka-broker-api-versions.sh \
      --bootstrap-server "127.0.0.1:$KAFKA_PORT" >/dev/null 2>&1 || return 1
  fi
  open_port "$KAFKA_PORT" && open_port "$KAFKA_SASL_SSL_PORT"
}

# --------------------------------------------------------------------------------------------------- services in docker

docker_answers() { has docker && timeout 10 docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

docker_compose() {
  docker compose --project-name "regards-relay-$(printf '%s' "$DIR" | cksum | cut -d ' ' -f 1)" \
    --file "$DIR/compose.yaml" "$@"
}

# Ports are the same inside and outside, so that what a broker says of itself is true for the tests.
write_compose() {
  mkdir -p "$DIR/rabbitmq" "$DIR/kafka"
  rabbitmq_conf 0.0.0.0 /tls >"$DIR/rabbitmq/rabbitmq.conf"
  kafka_properties 0.0.0.0 /tls /tmp/kafka-data >"$DIR/kafka/server.properties"
  {
    printf 'set -e\n/opt/kafka/bin/kafka-storage.sh format --ignore-formatted --cluster-id %s' "$KAFKA_CLUSTER_ID"
    # shellcheck disable=SC2046 # one option a line, without spaces
    printf " '%s'" --config /kafka/server.properties $(scram_options)
    printf '\nexec /opt/kafka/bin/kafka-server-start.sh /kafka/server.properties\n'
  } >"$DIR/kafka/start.sh"
  cat >"$DIR/compose.yaml" <<EOF
services:
  rabbitmq:
    image: $RABBITMQ_IMAGE
    hostname: relay
    ports:
      - "127.0.0.1:$AMQP_PORT:$AMQP_PORT"
      - "127.0.0.1:$AMQPS_PORT:$AMQPS_PORT"
      - "127.0.0.1:$MANAGEMENT_PORT:$MANAGEMENT_PORT"
    volumes:
      - "$DIR/rabbitmq/rabbitmq.conf:/etc/rabbitmq/conf.d/90-regards-relay.conf:ro"
      - "$DIR/tls:/tls:ro"
  kafka:
    image: apache/kafka:$KAFKA_VERSION
    entrypoint: ["bash", "/kafka/start.sh"]
    environment:
      KAFKA_HEAP_OPTS: -Xms128m -Xmx384m
    ports:
      - "127.0.0.1:$KAFKA_PORT:$KAFKA_PORT"
      - "127.0.0.1:$KAFKA_SASL_SSL_PORT:$KAFKA_SASL_SSL_PORT"
    volumes:
      - "$DIR/kafka:/kafka:ro"
      - "$DIR/tls:/tls:ro"
EOF
}

# ----------------------------------------------------------------------------------------------- one service, any mode

running() {
  if [ "$MODE" = native ]; then alive "$DIR/$1/pid"; else [ -n "$(docker_compose ps --quiet --status running "$1")" ]; fi
}

service_log() {
  if [ "$MODE" = native ]; then tail -n 40 "$DIR/$1/log"; else docker_compose logs --no-color --tail 40 "$1"; fi
}

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
  running "$1" || if [ "$MODE" = native ]; then "start_$1"; else docker_compose start "$1" >/dev/null 2>&1; fi
  wait_ready "$1"
}

do_stop() {
  if [ "$MODE" = docker ]; then docker_compose stop --timeout "$STOP_SECONDS" "$1" >/dev/null 2>&1; return; fi
  signal "$DIR/$1/pid" CONT || return 0   # a paused one would not hear us
  [ "$1" != rabbitmq ] || spare_rabbitmq_the_wait
  signal "$DIR/$1/pid" TERM || true
  wait_gone "$DIR/$1/pid" "$STOP_SECONDS" || { say "$1 did not stop within $STOP_SECONDS s"; return 1; }
  rm -f "$DIR/$1/pid"
}

do_kill() {
  if [ "$MODE" = native ]; then kill_now "$DIR/$1/pid"; else docker_compose kill "$1" >/dev/null 2>&1; fi
}

do_pause() {
  if [ "$MODE" = native ]; then signal "$DIR/$1/pid" STOP; else docker_compose pause "$1" >/dev/null 2>&1; fi
}

do_resume() {
  if [ "$MODE" = native ]; then signal "$DIR/$1/pid" CONT; else docker_compose unpause "$1" >/dev/null 2>&1; fi
}

# ------------------------------------------------------------------------------------------------------------ commands

STATE=(MODE SERVICES AMQP_PORT AMQPS_PORT MANAGEMENT_PORT DIST_PORT EPMD_PORT KAFKA_PORT KAFKA_SASL_SSL_PORT
  KAFKA_CONTROLLER_PORT)

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
}

up() {
  local name
  SERVICES=${*:-rabbitmq kafka}
  for name in $SERVICES; do
    case $name in rabbitmq | kafka) ;; *) usage ;; esac
  done
  mkdir -p "$DIR"
  if [ -f "$DIR/$MARKER" ]; then
    [ ! -e "$DIR/state" ] || die "$DIR: services were started there already"
  elif [ -n "$(ls -A "$DIR")" ]; then
    die "$DIR is not empty"
  fi
  : >"$DIR/$MARKER"
  install_all
  for name in "${STATE[@]}"; do
    if [[ $name == *_PORT ]]; then declare -g "$name=$(free_port)"; fi
  done
  for name in "${STATE[@]}"; do printf '%s=%q\n' "$name" "${!name}"; done >"$DIR/state"
  make_certificates
  if [ "$MODE" = docker ]; then
    write_compose
    # shellcheck disable=SC2086 # a list
    docker_compose up --detach --quiet-pull $SERVICES >&2
  else
    for name in $SERVICES; do "start_$name"; done
  fi
  for name in $SERVICES; do wait_ready "$name"; done
  write_env
}

# The data are thrown away, so nothing needs to end gently.
down() {
  [ -e "$DIR" ] || { release_ports; return 0; }
  if [ ! -f "$DIR/$MARKER" ]; then
    rmdir "$DIR" 2>/dev/null || die "$DIR: not made by services.sh, so not removed"
    return 0
  fi
  if [ -f "$DIR/compose.yaml" ]; then
    docker_compose down --volumes --timeout 1 >/dev/null 2>&1 || say "docker compose down failed for $DIR"
  fi
  local pidfile
  for pidfile in "$DIR"/{rabbitmq/pid,kafka/pid,rabbitmq/epmd.pid}; do
    if [ -e "$pidfile" ]; then kill_now "$pidfile"; fi
  done
  rm -rf "$DIR"
  release_ports
}

# up, which leaves nothing behind when it fails.
up_or_nothing() {
  trap 'rc=$?; trap "" INT TERM HUP; down; exit $rc' EXIT
  up "$@"
  trap - EXIT
}

descendants() {
  ps -e -o pid= -o ppid= | awk -v root="$1" '
    { parent[$1] = $2 }
    END { for (p in parent) for (q = p; q in parent; q = parent[q]) if (q == root) { print p; break } }'
}

# Ends the command that `run` was interrupted in, with all that it started.
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

run() {
  [ "${1:-}" != -- ] || shift
  [ $# -gt 0 ] || usage
  local command='' rc=0
  busy=1
  set_dir "$(mktemp -d "$TEMP/regards-relay.XXXXXX")"
  : >"$DIR/$MARKER"
  trap 'rc=$?; trap "" INT TERM HUP; [ -z "$command" ] || end_command "$command"; down; exit $rc' EXIT
  busy=''
  [ -z "$pending" ] || exit "$pending"
  up
  # shellcheck disable=SC1091
  . "$DIR/env"
  # In the background, so that a signal is acted on at once; it keeps the terminal and hears Ctrl-C itself.
  (trap - INT QUIT TERM HUP EXIT; exec "$@") <&0 &
  command=$!
  wait "$command" || rc=$?
  command=''
  exit "$rc"
}

umask 022
verb=${1:-}
[ $# -eq 0 ] || shift
case $verb in
  run) run "$@" ;;
  install) install_all ;;
  up)
    set_dir "${1:-}"
    shift
    up_or_nothing "$@"
    ;;
  down)
    set_dir "${1:-}"
    down
    ;;
  stop | start | kill | pause | resume)
    set_dir "${1:-}"
    load_state
    [[ " $SERVICES " == *" ${2:-} "* ]] || die "$DIR has: $SERVICES"
    "do_$verb" "$2"
    ;;
  *) usage ;;
esac
