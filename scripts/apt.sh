# shellcheck shell=bash
# apt-get for scripts, which waits while another program holds one of apt's locks, as a new machine's own updates do in its first minutes.
# apt waits for dpkg's locks by itself (DPkg::Lock::Timeout), but not for that of its lists: so the whole is tried again too.
APT_PATIENCE=${APT_PATIENCE:-600} # seconds

apt_get() {
  local deadline=$((SECONDS + APT_PATIENCE)) errors
  errors=$(mktemp)
  until LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -o "DPkg::Lock::Timeout=$APT_PATIENCE" "$@" 2>"$errors"; do
    if ((SECONDS >= deadline)) || ! grep -q -i -E 'could not get lock|unable to (acquire|lock)' "$errors"; then
      cat "$errors" >&2
      rm -f "$errors"
      return 1
    fi
    echo "another program holds apt's lock: waiting for it" >&2
    sleep 5
  done
  rm -f "$errors"
}
