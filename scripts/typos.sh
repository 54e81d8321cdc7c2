#!/usr/bin/env bash
# Checks the spelling with a pinned typos and the word list in typos.toml; typos is built once, into the cache.
set -euo pipefail

VERSION=1.52.0
ROOT=${XDG_CACHE_HOME:-$HOME/.cache}/regards-relay/typos-$VERSION

if [ ! -x "$ROOT/bin/typos" ]; then
  CARGO_PROFILE_DEV_DEBUG=0 cargo install typos-cli --version "$VERSION" --locked --debug --root "$ROOT"
fi

exec "$ROOT/bin/typos" "$@"
