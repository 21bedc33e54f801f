#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# check.sh DIR    runs the guest test programs of DIR on this machine: each passes when nothing was lost, and those
#                 that hold state fail when one piece of it is changed under them
set -uo pipefail

# Some of them count their descriptors: they get no others than the three.
for fd in /proc/$$/fd/*; do
	fd=${fd##*/}
	case $fd in 0 | 1 | 2 | 255) ;; *) eval "exec $fd>&-" ;; esac
done
cd "$1"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; sed 's/^/    /' "$tmp/out" 2>/dev/null; }
expect() {	# NAME WANTED-CODE COMMAND...
	local name=$1 want=$2 got
	shift 2
	timeout 60 "$@" >"$tmp/out" 2>&1 </dev/null
	got=$?
	if [ $got = "$want" ]; then ok; else bad "$name: exit $got, expected $want"; fi
}
# Waits, 20 s at most, until a program has written its first line.
ready() {
	local i
	for ((i = 0; i < 1000; i++)); do
		[ -s "$1" ] && return
		read -rt 0.02 <> <(:)
	done
	bad "nothing was printed to $1"
}
json() { python3 -c 'import json,sys; [json.loads(l) for l in open(sys.argv[1])]' "$tmp/out" 2>/dev/null; }

expect "regs undisturbed" 0 ./regs -n 3
for what in none xmm5 ymm9 mxcsr x87cw st0 rbx r15 r9 gs mask; do
	want=1
	[ $what = none ] && want=0
	rm -f "$tmp/out"		# or ready would see the previous run's line
	./regs -n 2000 >"$tmp/out" & pid=$!
	ready "$tmp/out"
	if [ $what = ymm9 ] && ! grep -q avx "$tmp/out"; then kill $pid; wait $pid 2>/dev/null; continue; fi
	if ./poke $pid $what 2>"$tmp/poke"; then
		kill -USR2 $pid
		wait $pid
		got=$?
		if [ $got = $want ]; then ok; else bad "regs with $what changed: exit $got, expected $want"; fi
	else
		kill $pid; wait $pid 2>/dev/null
		echo "skipped: regs with $what changed: $(cat "$tmp/poke")"
	fi
done

printf 'check\ncheck\nquit\n' >"$tmp/lines"
if timeout 60 ./mixed ./regs "$tmp/appended" <"$tmp/lines" >"$tmp/out" && [ "$(grep -c '^ok$' "$tmp/out")" = 4 ]; then ok; else bad "mixed undisturbed"; fi
rm -f "$tmp/out" "$tmp/fifo"; mkfifo "$tmp/fifo"
./mixed ./regs <"$tmp/fifo" >"$tmp/out" & pid=$!
exec 5>"$tmp/fifo"
ready "$tmp/out"
prlimit --pid $pid --core=1:2 2>/dev/null && renice -n 5 -p $pid >/dev/null
echo quit >&5
exec 5>&-
wait $pid
if [ $? = 1 ] && grep -q RLIMIT_CORE "$tmp/out" && grep -q 'nice 5' "$tmp/out"; then ok; else bad "mixed with a limit and nice changed"; fi

rm -f "$tmp/out"
./memhog 4 >"$tmp/out" & pid=$!
ready "$tmp/out"
kill -TERM $pid
if wait $pid; then ok; else bad "memhog undisturbed"; fi
rm -f "$tmp/out"
./memhog 4 >"$tmp/out" & pid=$!
ready "$tmp/out"
at=
while read -r range mode _; do
	[ "$mode" = rw-p ] && [ $((0x${range#*-} - 0x${range%-*})) -ge 4194304 ] && { at=${range%-*}; break; }
done </proc/$pid/maps
if [ -n "$at" ] && printf 'X' | dd of=/proc/$pid/mem bs=1 seek=$((0x$at + 70000)) conv=notrunc status=none 2>/dev/null; then
	kill -TERM $pid
	wait $pid
	if [ $? = 1 ]; then ok; else bad "memhog with one byte changed"; fi
else
	kill -KILL $pid; wait $pid 2>/dev/null
	echo "skipped: memhog with one byte changed"
fi

for kind in $(./fdzoo --list); do
	rm -f "$tmp/out"
	./fdzoo "$kind" >"$tmp/out" & pid=$!
	ready "$tmp/out"
	if grep -q '^unsupported' "$tmp/out"; then
		wait $pid
		[ $? = 77 ] && echo "skipped: fdzoo $kind: not on this kernel"
		continue
	fi
	fd=$(awk '{ print $3 }' "$tmp/out")
	if [ -e "/proc/$pid/fd/$fd" ]; then ok; else bad "fdzoo $kind has no descriptor $fd"; fi
	kill $pid; wait $pid 2>/dev/null
done

# Benchmarks: they run and print JSON.
rm -f "$tmp/peer"
./sigecho peer >"$tmp/peer" & pid=$!
ready "$tmp/peer"
expect "sigecho" 0 ./sigecho ping $pid 200
json || bad "sigecho: no JSON"
kill $pid; wait $pid 2>/dev/null
expect "sigecho to nobody" 1 ./sigecho ping 4194304 1
rm -f "$tmp/peer"
./tcpecho server 17711 >"$tmp/peer" & pid=$!
ready "$tmp/peer"
expect "tcpecho" 0 ./tcpecho client 127.0.0.1 17711 200
json || bad "tcpecho: no JSON"
kill $pid; wait $pid 2>/dev/null
rm -f "$tmp/peer"
./memcopy_tcp recv 17712 >"$tmp/peer" & pid=$!
ready "$tmp/peer"
expect "memcopy_tcp" 0 ./memcopy_tcp send 127.0.0.1 17712 2 3
json || bad "memcopy_tcp: no JSON"
kill $pid; wait $pid 2>/dev/null
expect "forkexec" 0 ./forkexec -n 5
json || bad "forkexec: no JSON"
expect "hookcost" 0 ./hookcost getpid kill
json || bad "hookcost: no JSON"
expect "migclock" 0 ./migclock pipe 1 1
for program in "regs -x" "memhog" "mixed" "fdzoo" "fdzoo no_such" "sigecho" "tcpecho" "memcopy_tcp" "forkexec -n x" "migtime" "migclock" "hookcost no_such"; do
	# shellcheck disable=SC2086
	expect "usage of $program" 2 ./$program
done

echo "$passed passed, $failed failed"
[ $failed = 0 ]
