# shellcheck shell=bash disable=SC2034,SC2154 # variables shared with ../services.sh
# Ports, certificates, the key of tokens and configuration of the services, for both modes; and DIR/env for the tests.

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

# A temporary certificate authority, a certificate for localhost, one for a client, and one for a client that no broker knows.
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
    for name in server client stranger; do
      openssl req "${new_key[@]}" -subj "/CN=regards-relay test $name" -keyout $name.key -out $name.csr
      openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
        -extfile openssl.cnf -extensions "${name/stranger/client}" -out $name.pem
    done
    cat server.key server.pem >server.both.pem
    # Containers read these files as other users; the mode of DIR decides who reaches them.
    chmod 755 . && chmod 644 -- *
  ) 2>"$DIR/openssl.log" || die "openssl could not make certificates: $(cat "$DIR/openssl.log")"
}

# The key that signs tokens, and its public half as PEM and as a set of JSON web keys.
make_token_key() {
  local tls=$DIR/tls modulus
  (
    openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$tls/token.key"
    openssl pkey -in "$tls/token.key" -pubout -out "$tls/token.pub"
    modulus=$(openssl rsa -in "$tls/token.key" -noout -modulus | cut -d = -f 2 | sed 's/../\\x&/g')
    # The bytes of the number, without a newline, in base64 for URLs.
    modulus=$(printf %b "$modulus" | openssl base64 -A | tr '+/' '-_' | tr -d '=')
    printf '{"keys":[{"kty":"RSA","use":"sig","alg":"RS256","kid":"tests","e":"AQAB","n":"%s"}]}\n' "$modulus" \
      >"$tls/jwks.json"
    chmod 644 "$tls"/token.* "$tls/jwks.json"
  ) 2>"$DIR/openssl.log" || die "openssl could not make the key of tokens: $(cat "$DIR/openssl.log")"
}

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
# Users with a password first, then tokens. A client that logs in by its certificate (EXTERNAL) is the user of that name.
auth_mechanisms.1 = PLAIN
auth_mechanisms.2 = AMQPLAIN
auth_mechanisms.3 = EXTERNAL
ssl_cert_login_from = common_name
auth_backends.1 = internal
auth_backends.2 = rabbit_auth_backend_oauth2
auth_oauth2.resource_server_id = rabbitmq
auth_oauth2.default_key = tests
auth_oauth2.signing_keys.tests = $2/token.pub
auth_oauth2.algorithms.1 = RS256
management.tcp.ip = $1
management.tcp.port = $MANAGEMENT_PORT
default_user = $AMQP_USER
default_pass = $AMQP_PASSWORD
loopback_users = none
# The management API shows queue depths of half a second ago, not of five.
collect_statistics_interval = 500
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = $MEMORY_LIMIT
num_acceptors.tcp = 2
num_acceptors.ssl = 2
log.console = true
log.console.level = info
log.file = false
EOF
}

rabbitmq_plugins() { echo '[rabbitmq_management,rabbitmq_auth_backend_oauth2,rabbitmq_auth_mechanism_ssl,rabbitmq_consistent_hash_exchange].'; }

with_kdc() { [[ " $SERVICES " == *' kdc '* ]]; }

# kafka_properties ADDRESS TLS_DIR DATA_DIR KDC_DIR
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
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER$(if with_kdc; then echo ,GSSAPI; fi)
# Without this class the broker accepts a token of any key and for any audience.
sasl.oauthbearer.jwt.validator.class=$module.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url=file://$2/jwks.json
sasl.oauthbearer.expected.audience=kafka
sasl.oauthbearer.clock.skew.seconds=0
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=$module.oauthbearer.OAuthBearerLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.server.callback.handler.class=$module.oauthbearer.OAuthBearerValidatorCallbackHandler
# A connection ends with its token, unless the client logs in again on it.
listener.name.sasl_ssl.oauthbearer.connections.max.reauth.ms=3600000
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
# Records with old timestamps must stay readable.
log.retention.ms=-1
# Small, and quick to start and stop: there is no other broker for its partitions.
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=2097152
controlled.shutdown.enable=false
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
EOF
  ! with_kdc || cat <<EOF
# With GSSAPI among the mechanisms, all of them ask for this name. As an acceptor only, the broker needs no key distribution
# center.
sasl.kerberos.service.name=kafka
listener.name.sasl_ssl.gssapi.sasl.jaas.config=com.sun.security.auth.module.Krb5LoginModule required isInitiator=false useKeyTab=true storeKey=true keyTab="$4/kafka.keytab" principal="kafka/127.0.0.1@$REALM";
# Clients log in again after so long, on the open connection.
listener.name.sasl_ssl.gssapi.connections.max.reauth.ms=10000
EOF
}

# A Kerberos realm and the keytabs of its principals.
make_realm() {
  local home=$DIR/kdc name
  mkdir -p "$home/db"
  cat >"$home/krb5.conf" <<EOF
[libdefaults]
default_realm = $REALM
dns_lookup_realm = false
dns_lookup_kdc = false
dns_canonicalize_hostname = false
rdns = false
# TCP only.
udp_preference_limit = 1
[realms]
$REALM = {
  kdc = 127.0.0.1:$KDC_PORT
}
EOF
  cat >"$home/kdc.conf" <<EOF
[kdcdefaults]
kdc_listen = 127.0.0.1:$KDC_PORT
kdc_tcp_listen = 127.0.0.1:$KDC_PORT
[realms]
$REALM = {
  database_name = $home/db/principal
  key_stash_file = $home/db/stash
  acl_file = $home/db/kadm5.acl
  default_principal_flags = +preauth
}
[logging]
kdc = STDERR
EOF
  (
    export KRB5_CONFIG=$home/krb5.conf KRB5_KDC_PROFILE=$home/kdc.conf
    "$(kdc_tool kdb5_util)" create -s -r "$REALM" -P not-a-secret
    {
      for name in kafka/127.0.0.1 $PRINCIPALS; do
        printf 'addprinc -randkey %s\nktadd -k %s/%s.keytab %s\n' "$name" "$home" "${name%%/*}" "$name"
      done
      for name in short brief; do printf 'modprinc -maxlife "%s" %s\n' "$SHORT_LIFE" "$name"; done
      printf 'ktadd -k %s/renewed.keytab stale\n' "$home"
    } | "$(kdc_tool kadmin.local)" -r "$REALM"
    # Containers read these files as other users.
    chmod 644 "$home"/*.keytab
  ) >"$home/realm.log" 2>&1 || die "the Kerberos realm could not be made: $(cat "$home/realm.log")"
}

# kafka_allowed_urls TLS_DIR: a Java option, needed for any URL of keys.
kafka_allowed_urls() { printf %s "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://$1/jwks.json"; }

# registry_options registry|registry-auth: Java options, one a line. Tokens are verified by their key; there is no identity
# provider to ask.
registry_options() {
  [ "$1" = registry-auth ] || return 0
  printf -- '-D%s\n' quarkus.oidc.tenant-enabled=true quarkus.oidc.client-id=registry quarkus.oidc.auth-server-url= \
    quarkus.oidc.token-path= "quarkus.oidc.public-key=$(grep -v -e ----- "$DIR/tls/token.pub" | tr -d '\n')" \
    quarkus.oidc.roles.role-claim-path=roles registry.auth.enabled=true registry.auth.role-based-authorization=true
}

# Prints the port of a registry.
registry_port() { if [ "$1" = registry ]; then echo "$REGISTRY_PORT"; else echo "$REGISTRY_AUTH_PORT"; fi; }

scram_options() {
  local mechanism
  for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
    printf '%s\n' --add-scram "$mechanism=[name=$KAFKA_USER,password=$KAFKA_PASSWORD]"
  done
}

# The environment for the tests, and the state for later calls.
write_env() {
  local name
  {
    printf 'export REGARDS_RELAY_TEST_DIR=%s\n' "$DIR"
    printf 'export REGARDS_RELAY_TEST_SERVICES=%s\n' "$SCRIPTS/services.sh"
    for name in CA=tls/ca.pem CLIENT_CERT=tls/client.pem CLIENT_KEY=tls/client.key TOKEN_KEY=tls/token.key; do
      printf 'export REGARDS_RELAY_TEST_%s=%s\n' "${name%=*}" "$DIR/${name#*=}"
    done
    printf 'export REGARDS_RELAY_TEST_%s\n' "PYTHON=$PYTHON_HOME/bin/python" "CONNECT=$CONNECT_HOME" "JAVA=$(java_command)"
    if [[ " $SERVICES " == *' rabbitmq '* ]]; then
      for name in AMQP_PORT AMQPS_PORT MANAGEMENT_PORT AMQP_USER AMQP_PASSWORD; do
        printf 'export REGARDS_RELAY_TEST_%s=%s\n' "$name" "${!name}"
      done
    fi
    printf 'export REGARDS_RELAY_TEST_PSQL=%s\n' "$(postgres_dir psql)/psql"
    if [[ " $SERVICES " == *' postgres '* ]]; then
      for name in PORT USER PASSWORD CERT_USER DATABASE OTHER_DATABASE ADMIN_USER ADMIN_PASSWORD; do
        name=POSTGRES_$name
        printf 'export REGARDS_RELAY_TEST_%s=%s\n' "$name" "${!name}"
      done
    fi
    if [[ " $SERVICES " == *' postgres-standby '* ]]; then
      printf 'export REGARDS_RELAY_TEST_POSTGRES_STANDBY_PORT=%s\n' "$POSTGRES_STANDBY_PORT"
    fi
    for name in REGISTRY=registry REGISTRY_AUTH=registry-auth; do
      if [[ " $SERVICES " == *" ${name#*=} "* ]]; then
        printf 'export REGARDS_RELAY_TEST_%s_PORT=%s\n' "${name%=*}" "$(registry_port "${name#*=}")"
      fi
    done
    if with_kdc; then
      printf 'export REGARDS_RELAY_TEST_KDC_PORT=%s\n' "$KDC_PORT"
      printf 'export REGARDS_RELAY_TEST_KDC=%s\n' "$DIR/kdc"
    fi
    if [[ " $SERVICES " == *' kafka '* ]]; then
      for name in KAFKA_PORT KAFKA_SASL_SSL_PORT KAFKA_USER KAFKA_PASSWORD; do
        printf 'export REGARDS_RELAY_TEST_%s=%s\n' "$name" "${!name}"
      done
    fi
  } >"$DIR/env"
}
