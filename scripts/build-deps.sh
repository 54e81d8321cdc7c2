#!/usr/bin/env bash
# What building needs besides Rust: librdkafka is compiled from source (C and C++ compiler, make) and linked with the
# system's OpenSSL (its headers, found by pkg-config); and the commands that are named as arguments. Silent when all is there;
# else installs it when root on Debian or Ubuntu, and says what to install anywhere else.
set -euo pipefail

missing=()
has() { command -v "$1" >/dev/null 2>&1; }
has cc || missing+=(gcc libc6-dev)
has c++ || missing+=(g++)
has make || missing+=(make)
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
  echo "build-deps: missing, by their names on Debian: ${missing[*]} (a C and a C++ compiler, make, pkg-config and OpenSSL's" \
    "headers are what the build needs)" >&2
  exit 1
fi
