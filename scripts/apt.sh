# shellcheck shell=bash
# apt-get for scripts. It waits while another program holds one of apt's locks, such as the automatic updates of a new machine.
# apt itself waits for dpkg's locks (DPkg::Lock::Timeout), but not for the lock of its lists; therefore the command is repeated.
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
