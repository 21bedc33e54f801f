#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0
#
# tools.sh           builds build/bin/cluster, static, and build/bin/names, the names it answers to
# tools.sh --check   format, lints and unit tests of the workspace
# tools.sh --docs    man pages and completions into build/docs
set -euo pipefail
. "$(dirname "$0")/common.sh"

. "$TOP/tools/build/target.sh"
CARGO_TARGET_DIR=$(cargo_target tools)
export CARGO_TARGET_DIR
TARGET=$(rustc -vV | sed -n 's/^host: //p')
cd "$TOP/tools"

build() {
	mkdir -p "$TOP/build/bin" "$CARGO_TARGET_DIR"
	# Two that start at once build one after the other.
	exec 9>"$CARGO_TARGET_DIR/.lock"
	flock 9
	# With an explicit target the flag reaches the program and not the build scripts and macros.
	RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --release --locked --target "$TARGET"
	install -m 755 "$CARGO_TARGET_DIR/$TARGET/release/cluster" "$TOP/build/bin/cluster.tmp"
	mv "$TOP/build/bin/cluster.tmp" "$TOP/build/bin/cluster"
	exec 9>&-
	"$TOP/build/bin/cluster" names >"$TOP/build/bin/names"
}

case ${1:-} in
"") build ;;
--check)
	cargo fmt --check
	cargo clippy -q --locked --all-targets -- -D warnings
	cargo test -q --locked
	;;
--docs)
	[ -x "$TOP/build/bin/cluster" ] || build
	"$TOP/build/bin/cluster" docs "$TOP/build/docs"
	;;
*) say "usage: tools.sh [--check|--docs]"; exit 2 ;;
esac
