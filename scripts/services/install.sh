# shellcheck shell=bash disable=SC2034,SC2154 # variables shared with ../services.sh
# Installs the native services: RabbitMQ, PostgreSQL, MIT Kerberos, Java and Maven from the system's packages, Apache Kafka and
# Apicurio Registry with Maven. Installs the readers too: clients that read what the relay writes and share no code with it.

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
  postgres_server >/dev/null || echo postgresql
  java_command >/dev/null || echo java
  downloaded || has mvn || echo maven
  missing_for_readers
  missing_for_kdc
}

# kdc_tool NAME: prints the path of a program of MIT Kerberos, whose directory users often don't have in their PATH.
kdc_tool() { PATH=$PATH:/usr/local/sbin:/usr/sbin command -v "$1"; }

missing_for_kdc() {
  kdc_tool krb5kdc >/dev/null || echo krb5-kdc
  kdc_tool kadmin.local >/dev/null || echo krb5-admin-server
}

missing_for_readers() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

apt_install() {
  local packages policy=/usr/sbin/policy-rc.d clusters=/etc/postgresql-common/createcluster.d
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
    remove=()
    trap 'rm -f "${remove[@]}"; [ ! -d "$clusters" ] || rmdir --ignore-fail-on-non-empty "$clusters"' EXIT
    if [ ! -e $policy ]; then
      remove+=("$policy")
      printf '#!/bin/sh\nexit 101\n' >$policy
      chmod 755 $policy
    fi
    # PostgreSQL's package would create a database cluster, too.
    if [[ " ${packages[*]} " == *' postgresql '* ]]; then
      remove+=("$clusters/regards-relay.conf")
      mkdir -p "$clusters"
      echo 'create_main_cluster = false' >"$clusters/regards-relay.conf"
    fi
    apt_get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
  )
  if [[ " ${packages[*]} " == *' rabbitmq-server '* ]] && has systemctl; then
    systemctl disable rabbitmq-server.service epmd.service epmd.socket >/dev/null 2>&1 || true
  fi
  if [[ " ${packages[*]} " == *' postgresql '* ]] && has systemctl; then
    systemctl disable postgresql.service >/dev/null 2>&1 || true
  fi
  if [[ " ${packages[*]} " == *' krb5-'* ]] && has systemctl; then
    systemctl disable krb5-kdc.service krb5-admin-server.service >/dev/null 2>&1 || true
  fi
}

# Fetches what the options of Maven say into a folder, whole or not at all.
maven_download() { # NAME FOLDER OPTION...
  local name=$1 folder=$2 part
  [ ! -d "$folder" ] || return 0
  say "fetching $name with Maven into $folder"
  part=$(mktemp -d "$folder-part.XXXXXX")
  if mvn -B -q "-DoutputDirectory=$part" "${@:3}" </dev/null >&2; then
    chmod 755 "$part"
    mv -T "$part" "$folder"
  else
    rm -rf "$part"
    die "Maven could not fetch $name: see above"
  fi
}

kafka_download() {
  maven_download "Apache Kafka $KAFKA_VERSION" "$KAFKA_HOME" -f "$SCRIPTS/kafka/pom.xml" dependency:copy-dependencies
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
    [ -z "$missing" ] || die "missing: $missing. Install them (java: a JRE of at least 17; postgresql: at least" \
      "$POSTGRES_OLDEST;" \
      "on Debian or Ubuntu: apt-get install --no-install-recommends ${missing/java/openjdk-17-jre-headless})," \
      "or start a docker engine with compose"
  fi
  locked kafka_download
  locked registry_download
}

installed() { downloaded && [ -z "$(missing_packages)" ]; }

readers_installed() { [ -d "$CONNECT_HOME" ] && [ -e "$PYTHON_HOME/complete" ] && java_command >/dev/null; }

install_readers() {
  local missing
  missing=$( (missing_for_readers; java_command >/dev/null || echo "java (at least 17)"; has mvn || echo maven) | xargs)
  [ -z "$missing" ] || die "missing for Kafka Connect and Confluent's clients, which read what the relay writes: $missing"
  locked connect_download
  locked python_install
}

connect_download() {
  maven_download "Kafka Connect $KAFKA_VERSION" "$CONNECT_HOME" -f "$SCRIPTS/readers/pom.xml" \
    "-Dkafka.version=$KAFKA_VERSION" dependency:copy-dependencies
}

# In its final place, because an environment of Python can't be moved.
python_install() {
  [ ! -e "$PYTHON_HOME/complete" ] || return 0
  say "installing Confluent's clients with pip into $PYTHON_HOME"
  rm -rf "$PYTHON_HOME"
  if python3 -m venv "$PYTHON_HOME" >&2 &&
    "$PYTHON_HOME/bin/pip" install -q --disable-pip-version-check -r "$SCRIPTS/readers/requirements.txt" >&2; then
    : >"$PYTHON_HOME/complete"
  else
    rm -rf "$PYTHON_HOME"
    die "pip could not install Confluent's clients: see above"
  fi
}
