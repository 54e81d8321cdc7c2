# shellcheck shell=bash disable=SC2034,SC2154 # variables shared with ../services.sh
# The services as processes of this machine.

# All nodes have one name; each is found only through its own epmd on its own port.
start_rabbitmq() {
  local home=$DIR/rabbitmq epmd erl_args
  mkdir -p "$home"
  if [ ! -s "$home/.erlang.cookie" ]; then
    openssl rand -hex 16 >"$home/.erlang.cookie"
    chmod 600 "$home/.erlang.cookie"
    rabbitmq_conf 127.0.0.1 "$DIR/tls" >"$home/rabbitmq.conf"
    rabbitmq_plugins >"$home/enabled_plugins"
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

# While it stops, the statistics handler of RabbitMQ 3's management plugin waits 5 s for an answer that cannot come. Removing
# the handler first saves them; if that fails, the stop is only slower.
spare_rabbitmq_the_wait() {
  tell_rabbitmq 'gen_event, delete_handler, [rabbit_event, rabbit_mgmt_db_handler, []]' || true
}

# tell_rabbitmq 'MODULE, FUNCTION, [ARGUMENTS]': calls it in the node.
tell_rabbitmq() {
  HOME=$DIR/rabbitmq ERL_EPMD_PORT=$EPMD_PORT timeout "$TELL_SECONDS" erl -noinput -hidden -sname "tell$$@localhost" \
    -kernel inet_dist_use_interface '{127,0,0,1}' \
    -eval "case rpc:call('relay@localhost', $1) of {badrpc, _} -> halt(1); _ -> halt(0) end." >/dev/null 2>&1
}

start_kafka() {
  local home=$DIR/kafka java options scram
  java=$(java_command)
  mkdir -p "$home"
  options=(-Xms128m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.awt.headless=true
    -Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"
    "$(kafka_allowed_urls "$DIR/tls")" "-Djava.security.krb5.conf=$DIR/kdc/krb5.conf" -cp "$KAFKA_HOME/*")
  if [ ! -s "$home/server.properties" ]; then
    kafka_properties 127.0.0.1 "$DIR/tls" "$home/data" "$DIR/kdc" >"$home/server.properties"
    mapfile -t scram < <(scram_options)
    quietly "$java" "${options[@]}" kafka.tools.StorageTool format --cluster-id "$KAFKA_CLUSTER_ID" \
      --config "$home/server.properties" "${scram[@]}"
    : >"$home/log"
  fi
  printf '%s\n' "$(wc -c <"$home/log")" >"$home/log.before"
  spawn "$home/pid" "$home/log" "$java" "${options[@]}" kafka.Kafka "$home/server.properties"
}

start_kdc() {
  local home=$DIR/kdc
  spawn "$home/pid" "$home/log" env KRB5_CONFIG="$home/krb5.conf" KRB5_KDC_PROFILE="$home/kdc.conf" "$(kdc_tool krb5kdc)" -n
}

start_registry() { run_registry registry; }

start_registry-auth() { run_registry registry-auth; }

# run_registry SERVICE: in memory; it forgets its schemas when it ends.
run_registry() {
  local home=$DIR/$1 options
  mkdir -p "$home/tmp"
  mapfile -t options < <(registry_options "$1")
  spawn "$home/pid" "$home/log" "$(java_command)" -Xms64m -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
    "-Djava.io.tmpdir=$home/tmp" -Dquarkus.http.host=127.0.0.1 "-Dquarkus.http.port=$(registry_port "$1")" "${options[@]}" \
    -jar "$REGISTRY_HOME/apicurio-registry-app-$REGISTRY_VERSION-runner.jar"
}
