# shellcheck shell=bash disable=SC2034,SC2154 # variables shared with ../services.sh
# The services as containers.

docker_answers() { has docker && timeout 10 docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; }

docker_compose() {
  docker compose --project-name "regards-relay-$(printf '%s' "$DIR" | cksum | cut -d ' ' -f 1)" \
    --file "$DIR/compose.yaml" "$@"
}

# Ports are the same inside and outside, so that the addresses a broker advertises are valid for the tests.
write_compose() {
  local name
  mkdir -p "$DIR/rabbitmq" "$DIR/kafka" "$DIR/kdc"
  for name in postgres postgres-standby; do write_postgres "$name" 0.0.0.0 /postgres /tls /var/lib/postgresql/data; done
  rabbitmq_conf 0.0.0.0 /tls >"$DIR/rabbitmq/rabbitmq.conf"
  rabbitmq_plugins >"$DIR/rabbitmq/enabled_plugins"
  kafka_properties 0.0.0.0 /tls /tmp/kafka-data /kdc >"$DIR/kafka/server.properties"
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
      - "$DIR/rabbitmq/enabled_plugins:/etc/rabbitmq/enabled_plugins:ro"
      - "$DIR/tls:/tls:ro"
  kafka:
    image: apache/kafka:$KAFKA_VERSION
    entrypoint: ["bash", "/kafka/start.sh"]
    environment:
      KAFKA_HEAP_OPTS: -Xms128m -Xmx384m
      KAFKA_OPTS: "$(kafka_allowed_urls /tls) -Djava.security.krb5.conf=/kdc/krb5.conf"
    ports:
      - "127.0.0.1:$KAFKA_PORT:$KAFKA_PORT"
      - "127.0.0.1:$KAFKA_SASL_SSL_PORT:$KAFKA_SASL_SSL_PORT"
    volumes:
      - "$DIR/kafka:/kafka:ro"
      - "$DIR/tls:/tls:ro"
      - "$DIR/kdc:/kdc:ro"
EOF
  for name in registry registry-auth; do
    cat >>"$DIR/compose.yaml" <<EOF
  $name:
    image: apicurio/apicurio-registry-mem:$REGISTRY_VERSION
    environment:
      JAVA_OPTS_APPEND: "$(registry_options "$name" | xargs)"
    ports:
      - "127.0.0.1:$(registry_port "$name"):8080"
EOF
  done
  for name in postgres postgres-standby; do
    cat >>"$DIR/compose.yaml" <<EOF
  $name:
    image: $POSTGRES_IMAGE
    user: postgres
    entrypoint: ["bash", "/postgres/start.sh"]
    stop_signal: SIGINT
    ports:
      - "127.0.0.1:$(postgres_port "$name"):$(postgres_port "$name")"
    volumes:
      - "$DIR/$name:/postgres:ro"
      - "$DIR/tls:/tls:ro"
EOF
  done
}
