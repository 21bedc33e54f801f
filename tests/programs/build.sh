#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# build.sh           builds the guest test programs, static, into build/programs, and copies those that are scripts
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

install -C -m 755 "$here"/scripts/* "$out"

# Programs that use libcluster are built as anybody would: with what pkg-config says, against an installed tree. Each twice,
# NAME with the shared library, which lies beside it in guests, and NAME-static without.
stage=$here/../../build/stage
"$here/../../tools/build/tools.sh" --install "$stage"
stage=$(cd "$stage" && pwd)
export PKG_CONFIG_PATH=$stage/lib/pkgconfig
CFLAGS=(-std=gnu11 -O2 -g -Wall -Wextra -Werror)
flags() { pkg-config "$@" libcluster; }
for src in "$here"/libcluster/*.c; do
	bin=$out/$(basename "$src" .c)
	if [ ! -e "$bin" ] || [ "$src" -nt "$bin" ] || [ "$stage/lib/libcluster.a" -nt "$bin" ] || [ "$0" -nt "$bin" ]; then
		# shellcheck disable=SC2046  # flags are words
		"$CC" "${CFLAGS[@]}" $(flags --cflags) -static -o "$bin-static.tmp" "$src" $(flags --static --libs)
		mv "$bin-static.tmp" "$bin-static"
		# shellcheck disable=SC2046
		"$CC" "${CFLAGS[@]}" $(flags --cflags) -Wl,-rpath,/usr/lib/ssi-tests -o "$bin.tmp" "$src" $(flags --libs)
		mv "$bin.tmp" "$bin"
	fi
done
if ! cmp -s "$stage/lib/libcluster.so.1" "$out/libcluster.so.1"; then
	cp "$stage/lib/libcluster.so.1" "$out/libcluster.so.1.tmp"
	mv "$out/libcluster.so.1.tmp" "$out/libcluster.so.1"
fi

if [ "${1:-}" = --check ]; then exec "$here/check.sh" "$out"; fi
