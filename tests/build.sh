#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds the workspace in tests/ and copies its binaries to build/bin, if a source is newer than they are.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
bin=$top/build/bin
binaries=(rig rig-agent cases)

is_current() {
	local b
	for b in "${binaries[@]}"; do
		[ -x "$bin/$b" ] || return 1
	done
	[ -e "$bin/.tests-built" ] &&
		[ -z "$(find "$top/tests" -path "$top/tests/bench" -prune -o -newer "$bin/.tests-built" \( -name '*.rs' -o -name '*.toml' -o -name Cargo.lock \) -print -quit)" ]
}

is_current && exit 0
. "$top/tests/target.sh"
mkdir -p "$bin"
# Two that find it out of date at once build it once.
exec 9>"$CARGO_TARGET_DIR/.lock"
flock 9
is_current && exit 0
stamp=$(mktemp "$bin/.stamp.XXXXXX")
trap 'rm -f "$stamp"' EXIT
# The guest agent must be static; one flag for the whole workspace keeps one build of every crate. The target
# is named so that the flag does not reach proc macros and build scripts.
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static"
(cd "$top/tests" && cargo build --release --locked --quiet --target x86_64-unknown-linux-gnu) >&2
for b in "${binaries[@]}"; do
	cp "$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/$b" "$bin/.$b.new"
	mv "$bin/.$b.new" "$bin/$b"
done
mv "$stamp" "$bin/.tests-built"
