# shellcheck shell=bash disable=SC2034,SC2154 # variables shared with ../services.sh
# Signals and processes. A process is found by its id only: a file has the id and the start time of each.

# A signal that comes while a process is being started waits until its process id is on disk.
busy='' pending=''
on_signal() {
  pending=$1
  [ -n "$busy" ] || exit "$1"
}
trap 'on_signal 130' INT
trap 'on_signal 143' TERM
trap 'on_signal 129' HUP

# When the process with this id was started; empty when it is gone or a zombie. Ids are used again, (id, start) are not.
started_at() {
  local stat
  { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
  # shellcheck disable=SC2086 # the fields behind the name in brackets, split on purpose
  set -- ${stat##*) }
  [ "$1" = Z ] || printf '%s' "${20}"
}

# spawn PIDFILE LOG COMMAND…: a process group of its own, so that a terminal's Ctrl-C doesn't reach it. Not a session: Linux
# gives each session an equal share of the processors (autogroup), and can let one wait for 100 ms if two are busy.
spawn() {
  local pidfile=$1 log=$2
  shift 2
  busy=1
  set -m
  "$@" </dev/null >>"$log" 2>&1 9>&- &
  set +m
  echo "$! $(started_at $!)" >"$pidfile"
  disown
  busy=''
  [ -z "$pending" ] || exit "$pending"
}

alive() {
  local pid start
  read -r pid start 2>/dev/null <"$1" || return 1
  [ -n "$start" ] && [ "$(started_at "$pid")" = "$start" ]
}

# signal PIDFILE SIGNAL: to the process and those it started.
signal() {
  local pid
  alive "$1" || return 1
  read -r pid _ <"$1"
  kill -s "$2" -- "-$pid" 2>/dev/null || kill -s "$2" "$pid" 2>/dev/null
}

# Prints the ids of a process, of those it started, and of theirs.
descendants() {
  # Behind the name in brackets come the state and the parent. A process can end meanwhile.
  { cat /proc/[0-9]*/stat 2>/dev/null || true; } | awk -v root="$1" '
    { id = $1; sub(/^.*\) /, ""); parent[id] = $2 }
    END { for (p in parent) for (q = p; q in parent; q = parent[q]) if (q == root) { print p; break } }'
}

# signal_all PIDFILE SIGNAL: as `signal`, and also those in groups of their own, such as the backends of PostgreSQL. The process
# is stopped first, so that it starts no others meanwhile. Sets `signalled` to the ids.
signalled=''
signal_all() {
  local pid
  if [ "$2" = CONT ]; then alive "$1"; else signal "$1" STOP; fi || return 1
  read -r pid _ <"$1"
  signalled=$(descendants "$pid" | xargs)
  # shellcheck disable=SC2086 # a list
  kill -s "$2" $signalled 2>/dev/null || true
  signal "$1" "$2" || true
}

wait_gone() {
  local tries=$(($2 * 20))
  while alive "$1"; do
    [ $((tries--)) -gt 0 ] || return 1
    sleep 0.05
  done
}

kill_now() {
  local pid tries=200
  if signal_all "$1" KILL; then
    for pid in $signalled; do
      while [ -n "$(started_at "$pid")" ]; do
        [ $((tries--)) -gt 0 ] || { say "process $pid survived SIGKILL"; break; }
        sleep 0.05
      done
    done
  fi
  rm -f "$1"
}
