# shellcheck shell=bash disable=SC2034,SC2154 # variables shared with ../services.sh
# Installs the native services: RabbitMQ, Java and Maven from the system's packages, Apache Kafka and Apicurio Registry with
# Maven.

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
  has strace || echo strace # the tests look at the relay's system calls
  has flock || echo util-linux
  rabbitmq_server >/dev/null || echo rabbitmq-server
  java_command >/dev/null || echo java
  downloaded || has mvn || echo maven
}

apt_install() {
  local packages policy=/usr/sbin/policy-rc.d
  mapfile -t packages < <(missing_packages)
  [ "${#packages[@]}" -gt 0 ] || return 0
  say "installing ${packages[*]}"
  apt_get update -qq
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
    apt_get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
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

registry_download() {
  [ ! -d "$REGISTRY_HOME" ] || return 0
  say "fetching Apicurio Registry $REGISTRY_VERSION with Maven into $REGISTRY_HOME"
  local part artifact=apicurio-registry-app
  part=$(mktemp -d "$CACHE/apicurio-part.XXXXXX")
  if mvn -B -q org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy -DoutputDirectory="$part" \
    -Dartifact="io.apicurio:$artifact:$REGISTRY_VERSION:tar.gz:all" </dev/null >&2 &&
    tar -xzf "$part/$artifact-$REGISTRY_VERSION-all.tar.gz" -C "$part"; then
    rm "$part"/*.tar.gz
    chmod 755 "$part"
    mv -T "$part" "$REGISTRY_HOME"
  else
    rm -rf "$part"
    die "Maven could not fetch Apicurio Registry: see above"
  fi
}

downloaded() { [ -d "$KAFKA_HOME" ] && [ -d "$REGISTRY_HOME" ]; }

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
  locked registry_download
}

installed() { downloaded && [ -z "$(missing_packages)" ]; }
