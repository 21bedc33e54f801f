# SPDX-License-Identifier: GPL-2.0
# Facts shared by the set-up and kernel build scripts. Sourced, never run.

KERNEL_VERSION=7.3.4            # the one place that pins the kernel
BINDGEN_VERSION=0.73            # any 0.73.y
LLVM_SUFFIX=-19                 # clang-19, ld.lld-19, ...

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/openssi
mkdir -p "$CACHE"

export PATH="$CACHE/cargo/bin:$PATH"
RUSTC_VERSION=$(rustc --version 2>/dev/null | cut -d' ' -f2)

# Where the sources of core and alloc for exactly this rustc are.
rust_lib_src() {
	local sysroot
	[ -n "${RUST_LIB_SRC:-}" ] && { echo "$RUST_LIB_SRC"; return; }
	sysroot=$(rustc --print sysroot)/lib/rustlib/src/rust/library
	[ -d "$sysroot/core" ] && { echo "$sysroot"; return; }
	echo "$CACHE/rust-src-$RUSTC_VERSION/library"
}

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
