#!/usr/bin/env bash
# What the build needs besides Rust: a C and a C++ compiler, make and perl (librdkafka, Cyrus SASL and MIT Kerberos are compiled
# from source), OpenSSL's headers and pkg-config; and the commands given as arguments. Missing packages are installed as root on Debian or Ubuntu, and named elsewhere.
# Prints nothing if everything is there.
set -euo pipefail

missing=()
has() { command -v "$1" >/dev/null 2>&1; }
has cc || missing+=(gcc libc6-dev)
has c++ || missing+=(g++)
has make || missing+=(make)
has perl || missing+=(perl)
has pkg-config || missing+=(pkg-config)
if [ -z "${OPENSSL_DIR:-}" ] && ! pkg-config --exists openssl 2>/dev/null; then missing+=(libssl-dev); fi
for command; do has "$command" || missing+=("$command"); done
[ "${#missing[@]}" -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && has apt-get; then
  echo "build-deps: installing ${missing[*]}" >&2
  # shellcheck source=scripts/apt.sh
  . "$(dirname "$0")/apt.sh"
  apt_get update -qq
  apt_get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
elif has apt-get; then
  echo "build-deps: the build needs these packages: sudo apt-get install ${missing[*]}" >&2
  exit 1
else
  echo "build-deps: missing, by their names on Debian: ${missing[*]} (a C and a C++ compiler, make, perl, pkg-config and OpenSSL's" \
    "headers are what the build needs)" >&2
  exit 1
fi
