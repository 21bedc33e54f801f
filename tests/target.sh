# SPDX-License-Identifier: GPL-2.0
# Where cargo builds the workspace in tests/. Sourced, never run.
#
# One directory per checkout: cargo names what it builds by paths relative to the workspace and judges it by
# time stamps, so that in a shared directory one checkout gets the other's binaries.

targets=${XDG_CACHE_HOME:-$HOME/.cache}/openssi/target
tests_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export CARGO_TARGET_DIR=$targets/tests-$(printf %s "$tests_dir" | sha256sum | cut -c1-12)

if [ ! -e "$CARGO_TARGET_DIR/checkout" ]; then
	mkdir -p "$CARGO_TARGET_DIR"
	echo "$tests_dir" >"$CARGO_TARGET_DIR/checkout"
	# Those of checkouts that are gone go too.
	for checkout in "$targets"/tests-*/checkout; do
		[ -d "$(cat "$checkout")" ] || rm -rf "$(dirname "$checkout")"
	done
fi
