#!/usr/bin/env bash
# CPU time per event in µs, by thread and module.
#
#   profile.sh NAME.PID.data EVENTS     what `perf` recorded: BENCH_PROFILES=DIR make bench; EVENTS as many as the run carried
set -euo pipefail

[ $# = 2 ] || { sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2; }
FILE=$1 EVENTS=$2
PID=${FILE%.data} PID=${PID##*.}

# Thread, samples' time in ns, function and file, between tabs.
perf script --input "$FILE" --pid "$PID" --fields comm,period,ip,sym,dso 2>/dev/null |
  sed -nE 's/^ *(.*[^ ]) +([0-9]+) +[0-9a-f]+ (.*) \((.*)\)$/\1\t\2\t\3\t\4/p' |
  awk -F '\t' -v events="$EVENTS" '
    function module(function_, file) {
      if (file ~ /kernel/) return "kernel"
      if (file ~ /vdso/ || function_ ~ /clock_gettime|Timespec|Instant/) return "clock"
      if (function_ ~ /^_?mi_|malloc|free|realloc|raw_vec|alloc::alloc/) return "allocator"
      if (match(function_, /regards_relay::[a-z_]+/)) return substr(function_, RSTART, RLENGTH)
      if (function_ ~ /serde|itoa|ryu/) return "serde_json"
      if (function_ ~ /sha1|sha2|xxh|sip::|hash_one/) return "hashes"
      if (function_ ~ /hashbrown|BTree|btree|VecDeque/) return "collections"
      if (function_ ~ /tokio|futures/) return "tokio"
      if (function_ ~ /lapin|amq_protocol|nom::|flume|cookie_factory|event_listener/) return "lapin"
      if (function_ ~ /^rd_|^rd[a-z]*_|rdkafka|crc32|^mtx_|^cnd_/) return "librdkafka"
      if (function_ ~ /sqlite|rusqlite|vdbe|Btree|pcache|pager|balance|wal[A-Z]/) return "SQLite"
      if (function_ ~ /mem(cpy|move|cmp|set|chr)/) return "copying, comparing"
      if (file ~ /libc/) return "libc"
      return "other"
    }
    {
      thread = $1
      sub(/^rdk:.*/, "librdkafka", thread)
      of_thread[thread] += $2
      of_module[thread "\t" module($3, $4)] += $2
      all += $2
    }
    END {
      printf "%.1f µs an event\n", all / events / 1000
      for (thread in of_thread) printf "%08.2f\t%s\t\n", of_thread[thread] / events / 1000, thread | "sort -rn"
      close("sort -rn")
      for (key in of_module) {
        split(key, part, "\t")
        time = of_module[key] / events / 1000
        if (time >= 0.1) printf "%s\t%08.2f\t%s\n", part[1], time, part[2] | "sort -t \"\t\" -k 1,1 -k 2,2rn"
      }
    }' | sed -E 's/\b0+([0-9]+\.)/\1/'
