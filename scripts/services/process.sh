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

wait_gone() {
  local tries=$(($2 * 20))
  while alive "$1"; do
    [ $((tries--)) -gt 0 ] || return 1
    sleep 0.05
  done
}

kill_now() {
  if signal "$1" KILL; then wait_gone "$1" 10 || say "process $(cat "$1") survived SIGKILL"; fi
  rm -f "$1"
}
