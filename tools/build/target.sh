# SPDX-License-Identifier: GPL-2.0
# Where cargo builds. Sourced, never run.
#
# One directory per checkout: cargo names what it builds by paths relative to the workspace and judges it by
# time stamps, so that in a shared directory one checkout gets the other's binaries, with its paths in them.

cargo_target() {	# NAME; prints the directory for that workspace of this checkout
	local top targets dir checkout
	top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
	targets=${XDG_CACHE_HOME:-$HOME/.cache}/openssi/target
	dir=$targets/$1-$(printf %s "$top" | sha256sum | cut -c1-12)
	if [ ! -e "$dir/checkout" ]; then
		mkdir -p "$dir"
		echo "$top" >"$dir/checkout"
		# Those of checkouts that are gone go too.
		for checkout in "$targets"/*/checkout; do
			[ -d "$(cat "$checkout")" ] || rm -rf "$(dirname "$checkout")"
		done
	fi
	echo "$dir"
}
