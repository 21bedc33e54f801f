#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh           builds the guest test programs, static, into build/programs
# build.sh --check   also runs on this machine what can run on one machine
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$here/../../build/programs
mkdir -p "$out"
out=$(cd "$out" && pwd)
CC=${CC:-gcc}
FLAGS=(-std=gnu11 -O2 -g -Wall -Wextra -Werror -static -fno-pie -no-pie -pthread)

for src in "$here"/*.c; do
	name=$(basename "$src" .c)
	bin=$out/$name
	if [ ! -e "$bin" ] || [ "$src" -nt "$bin" ] || [ "$here/test.h" -nt "$bin" ] || [ "$here/net.h" -nt "$bin" ] || [ "$0" -nt "$bin" ]; then
		"$CC" "${FLAGS[@]}" -o "$bin.tmp" "$src" -lm
		mv "$bin.tmp" "$bin"
	fi
done

if [ "${1:-}" = --check ]; then exec "$here/check.sh" "$out"; fi
